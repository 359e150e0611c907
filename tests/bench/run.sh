#!/usr/bin/env bash
# Runs the benchmark of reads; what the servers' script adds at the end is dropped.
set -euo pipefail
exec "${CARGO_TARGET_DIR:-target}/release/bench" "${@:1:$#-1}"
