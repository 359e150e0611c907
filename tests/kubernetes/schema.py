"""Checks rendered manifests against the schemas of Kubernetes, strictly: schema.py FILE VERSION...

Unknown fields, kinds and versions fail; kinds of operators are checked by crds.mjs."""
import json
import pathlib
import re
import sys

import jsonschema
import kubernetes_validate
import referencing
import yaml

ELSEWHERE = ("postgresql.cnpg.io/", "monitoring.coreos.com/", "cert-manager.io/")
ROOT = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


class Loader(yaml.CSafeLoader):
    """Of a key that stands twice the first would be lost without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def errors(document, version):
    folder = ROOT / f"v{version}.0-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", document["apiVersion"])
    file = folder / f"{document['kind'].lower()}-{group}.json"
    if not file.exists():
        return [f"no schema for {document['apiVersion']}"]
    resource = referencing.Resource.from_contents
    registry = resource(json.loads((folder / "_definitions.json").read_text())) @ referencing.Registry()
    validator = jsonschema.Draft202012Validator(json.loads(file.read_text()), registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def main(file, *versions):
    with open(file) as opened:
        documents = [document for document in yaml.load_all(opened, Loader) if document]
    own = [document for document in documents if not document["apiVersion"].startswith(ELSEWHERE)]
    bad = 0
    for version in versions:
        for document in own:
            for error in errors(document, version):
                print(f"{version} {document['kind']}/{document['metadata']['name']} {error}")
                bad += 1
    print(f"{file}: {len(own)} documents, {len(versions)} versions, {bad} errors")
    # For the tests in Rust, which compare the objects with each other and with the code.
    pathlib.Path(file).with_suffix(".json").write_text(json.dumps(documents))
    return bad > 0 or not own or not versions


sys.exit(main(*sys.argv[1:]))
