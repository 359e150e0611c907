#!/usr/bin/env bash
# Runs a command against a throw-away Postgres, whose URL is the command's last argument and
# CLIENTELE_TEST_DATABASE_URL, and Redis, CLIENTELE_TEST_REDIS_URL; CLIENTELE_TEST_POSTGRES_BIN is where the
# programs of Postgres are. Nothing here outlives the command, so nothing is forced to disk, unless DURABLE=1.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
# /tmp may be memory, to which everything is durable at once.
folder=$(mktemp -d "${DURABLE:+/var}/tmp/clientele-test.XXXXXX")
as=()
if [ "$(id -u)" -eq 0 ]; then
    chown postgres: "$folder"
    as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
fi
stop() {
    kill "${redis:-}" 2> /dev/null || true
    "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate -s stop || true
    rm -rf "$folder"
}
trap stop EXIT
cd /
"${as[@]}" "$bin/initdb" -D "$folder/data" -U owner -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions > /dev/null
durable="-c fsync=off -c full_page_writes=off -c synchronous_commit=off"
# A benchmark's database has the memory of one that serves.
if [ -n "${DURABLE:-}" ]; then durable="-c shared_buffers=4GB -c max_wal_size=8GB"; fi
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -s -l "$folder/log" start \
    -o "-k $folder -p $port -h 127.0.0.1 -c max_connections=300 $durable"
redis_port=$(free_port)
redis-server --bind 127.0.0.1 --port "$redis_port" --save "" --appendonly no --dir /tmp > /dev/null &
redis=$!
cd - > /dev/null
export CLIENTELE_TEST_POSTGRES_BIN=$bin
export CLIENTELE_TEST_REDIS_URL=redis://127.0.0.1:$redis_port
export CLIENTELE_TEST_DATABASE_URL=postgres://owner@127.0.0.1:$port/postgres
"$@" "$CLIENTELE_TEST_DATABASE_URL"
