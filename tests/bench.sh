#!/usr/bin/env bash
# Imports a CDNOW master file into durable storage (fsync on) and checks count, sum and repetition.
# Usage: tests/bench.sh CDNOW_master.txt
set -euo pipefail
file=$(realpath "${1:?the CDNOW master file}")
cd "$(dirname "$0")/.."
state=$(mktemp -d /var/tmp/clientele-bench.XXXXXX)
chmod 755 "$state"
target/debug/clientele up --state "$state" --listen 127.0.0.1:50060 > "$state/up.log" 2>&1 &
up=$!
trap 'kill -TERM $up 2> /dev/null; wait $up || true; rm -rf "$state"' EXIT
for _ in $(seq 100); do [ -e "$state/running.json" ] && break; sleep 0.3; done
for run in first second; do
    echo "$run run:"
    target/debug/clientele import cdnow "$file" --state "$state" | sed 's/^/  /'
done
