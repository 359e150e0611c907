#!/usr/bin/env bash
# Runs every test against a throw-away Postgres. Arguments go to the test runner as a filter.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${CLIENTELE_TEST_DATABASE_URL:-}" ]; then
    exec tests/with-servers.sh tests/run.sh "$@"
fi
# The last argument is the database's URL, which the environment has too.
[ $# -eq 0 ] || set -- "${@:1:$#-1}"
CLIENTELE_TEST_PYTHON=${CLIENTELE_TEST_PYTHON:-$PWD/target/tools/python/bin/python}
CLIENTELE_TEST_NODE=${CLIENTELE_TEST_NODE:-$(command -v node)}
export CLIENTELE_TEST_PYTHON CLIENTELE_TEST_NODE
if cargo nextest --version > /dev/null 2>&1; then
    cargo nextest run --workspace "$@"
else
    # One test at a time and one process for all: slower, the same tests.
    cargo test --workspace --exclude tests -- --test-threads=2 "$@"
    cargo test -p tests --test stories -- --test-threads=2 "$@"
fi
