#!/usr/bin/env bash
# Lints and checks the format of the contract. Usage: tests/proto.sh BUF
set -euo pipefail
cd "$(dirname "$0")/.."
buf=${1:?the buf binary}
manifest=$(cargo metadata --format-version 1 --locked | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(p["manifest_path"] for p in packages if p["name"] == "prost-protovalidate-types"))')
mkdir -p target/buf/buf/validate
cp "$(dirname "$manifest")/proto/buf/validate/validate.proto" target/buf/buf/validate/
"$buf" lint
"$buf" format --diff --exit-code proto
echo "the contract holds to STANDARD and COMMENTS"
