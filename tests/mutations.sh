#!/usr/bin/env bash
# Takes one safeguard away at a time, and fails unless a test notices. What it alters it puts back.
set -euo pipefail
cd "$(dirname "$0")/.."
# Name, file, what to replace and by what, and which tests notice.
mutations=(
    "fence|libs/cache/src/lua/raise.lua|    redis.call('del', KEYS[3 * i - 2], KEYS[3 * i])|    |cache"
    "note|libs/cache/src/lua/fill.lua|redis.call('get', note) == seen|true|cache"
    "insert check|libs/cache/src/memory.rs|self.mark(customer) == mark|true|cache"
    "epoch|libs/cache/src/memory.rs|        self.openings.fetch_add(1, SeqCst);|        |cache"
    "connection|libs/cache/src/shared.rs|begun.openings == self.openings()|true|cache"
    "seal on transcripts|services/interaction/src/store.rs|.push(interaction.outcome.clone())|.push(interaction.transcript.clone())|canaries"
)
export SQLX_OFFLINE=true
build() {
    case $1 in
        cache) cargo test --quiet -p cache --no-run ;;
        canaries) cargo build --quiet --workspace && cargo test --quiet --workspace --test stories --no-run ;;
    esac
}
check() {
    case $1 in
        cache) cargo test --quiet -p cache ;;
        canaries) tests/run.sh -E 'test(no_copy_log)' ;;
    esac
}
for tests in cache canaries; do
    build "$tests" 2> /dev/null
    check "$tests" > /dev/null 2>&1
done
for mutation in "${mutations[@]}"; do
    IFS='|' read -r name file from to tests <<< "$mutation"
    cp "$file" "$file.whole"
    trap 'mv "$file.whole" "$file"' EXIT
    python3 - "$file" "$from" "$to" << 'PYTHON'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
assert text.count(old) >= 1, f"{path} has no longer {old!r}"
open(path, "w").write(text.replace(old, new))
PYTHON
    build "$tests" 2> /dev/null
    if check "$tests" > /dev/null 2>&1; then
        echo "without the $name every test passes" >&2
        exit 1
    fi
    mv "$file.whole" "$file"
    trap - EXIT
    touch "$file"
    echo "without the $name a test fails"
done
