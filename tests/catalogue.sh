#!/usr/bin/env bash
# Prints the field catalogue of a throw-away installation. The database's URL is in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
clientele=${CARGO_TARGET_DIR:-target}/debug/clientele
state=$(mktemp -d)
"$clientele" up --state "$state" --listen 127.0.0.1:0 --database-url "$CLIENTELE_TEST_DATABASE_URL" \
    --redis-url "$CLIENTELE_TEST_REDIS_URL" > "$state/out" &
trap 'kill %1; wait %1 || true; rm -rf "$state"' EXIT
until [ -e "$state/running.json" ]; do
    kill -0 %1
    sleep 0.1
done
"$clientele" catalogue --state "$state"
