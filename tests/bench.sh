#!/usr/bin/env bash
# Imports a CDNOW master file into durable storage (fsync on), says how fast, and fails unless the sum
# of the orders is the file's to the cent and a second run changes nothing.
# Usage: tests/bench.sh CDNOW_master.txt
set -euo pipefail
file=$(realpath "${1:?the CDNOW master file}")
cd "$(dirname "$0")/.."
clientele=${CARGO_TARGET_DIR:-target}/debug/clientele
state=$(mktemp -d /var/tmp/clientele-bench.XXXXXX)
chmod 755 "$state"
"$clientele" up --state "$state" --listen 127.0.0.1:50060 > "$state/up.log" 2>&1 &
up=$!
trap 'kill -TERM $up 2> /dev/null; wait $up || true; rm -rf "$state"' EXIT
for _ in $(seq 100); do [ -e "$state/running.json" ] && break; sleep 0.3; done
for run in first second; do
    echo "$run run:"
    "$clientele" import cdnow "$file" --state "$state" | sed 's/^/  /' | tee "$state/import.log"
done
rows=$(tail -n +2 "$file" | grep -c '[0-9]')
grep -q "orders: 0 created, $rows unchanged, 0 revised, 0 refused" "$state/import.log"

password=$(sed -n 's/.*"owner": "\(.*\)".*/\1/p' "$state/keys/passwords.json")
port=$(sed -n 4p "$state/postgres/data/postmaster.pid")
sums() { PGPASSWORD=$password psql -qXAt -h 127.0.0.1 -p "$port" -U clientele postgres -c "select sum($1) from order_history.$2"; }
cents=$(tail -n +2 "$file" | awk '{ gsub(/\./, "", $NF); sum += $NF } END { printf "%d", sum }')
for stored in "$(sums total_minor orders)" "$(sums gross_minor order_summaries)"; do
    if [ "$stored" != "$cents" ]; then echo "stored $stored cents, the file has $cents" >&2; exit 1; fi
done
echo "all $rows rows, $cents cents in the file, in the orders and in the customers' totals"
