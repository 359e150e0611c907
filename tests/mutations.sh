#!/usr/bin/env bash
# Takes one safeguard of the cache away at a time, and fails unless a test notices. What it alters it puts back.
set -euo pipefail
cd "$(dirname "$0")/.."
# Name, file, what to replace and by what.
mutations=(
    "fence|libs/cache/src/lua/raise.lua|    redis.call('del', KEYS[3 * i - 2], KEYS[3 * i])|    "
    "note|libs/cache/src/lua/fill.lua|redis.call('get', note) == seen|true"
    "insert check|libs/cache/src/memory.rs|self.mark(customer) == mark|true"
    "epoch|libs/cache/src/memory.rs|        self.openings.fetch_add(1, SeqCst);|        "
    "connection|libs/cache/src/shared.rs|begun.openings == self.openings()|true"
)
export SQLX_OFFLINE=true
cargo test --quiet -p cache > /dev/null
for mutation in "${mutations[@]}"; do
    IFS='|' read -r name file from to <<< "$mutation"
    cp "$file" "$file.whole"
    trap 'mv "$file.whole" "$file"' EXIT
    python3 - "$file" "$from" "$to" << 'PYTHON'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
assert text.count(old) >= 1, f"{path} has no longer {old!r}"
open(path, "w").write(text.replace(old, new))
PYTHON
    cargo test --quiet -p cache --no-run 2> /dev/null
    if cargo test --quiet -p cache > /dev/null 2>&1; then
        echo "without the $name every test passes" >&2
        exit 1
    fi
    mv "$file.whole" "$file"
    trap - EXIT
    touch "$file"
    echo "without the $name a test fails"
done
