// Checks the custom resources of rendered manifests against their definitions, strictly: node crds.mjs FILE...
import { existsSync, readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";

const packages = {
  "postgresql.cnpg.io": "cloudnative-pg",
  "monitoring.coreos.com": "prometheus-operator",
  "cert-manager.io": "cert-manager",
};

// The schemas say nothing of unknown fields, but a validator asks an object for each field that it knows.
function watch(raw, path, asked) {
  if (raw === null || typeof raw !== "object") return raw;
  const known = new Set();
  asked.set(path, { known, raw });
  return new Proxy(raw, {
    get(target, key) {
      if (typeof key === "string") known.add(key);
      return watch(target[key], `${path}/${String(key)}`, asked);
    },
  });
}

async function errors(object, group, version) {
  const parts = [...group.split(/[.-]/), version, object.kind];
  const name = parts.map((part) => part[0].toUpperCase() + part.slice(1)).join("");
  const schema = new URL(`node_modules/@kubernetes-models/${packages[group]}/_schemas/${name}.js`, import.meta.url);
  if (!existsSync(schema)) return [`no schema for ${object.apiVersion}`];
  const { validate } = await import(schema);
  const asked = new Map();
  const found = validate(watch(object, "", asked)) ? [] : validate.errors.map((e) => `${e.instancePath}: ${e.message ?? e.keyword}`);
  for (const [path, { known, raw }] of asked) {
    if (Array.isArray(raw) || known.size === 0) continue;
    found.push(...Object.keys(raw).filter((key) => !known.has(key)).map((key) => `${path}/${key}: unknown field`));
  }
  return found;
}

let seen = 0;
let bad = 0;
for (const file of process.argv.slice(2)) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"), { version: "1.1" })) {
    const object = document.toJS();
    const [group, version] = (object?.apiVersion ?? "").split("/");
    if (!packages[group]) continue;
    seen += 1;
    for (const error of await errors(object, group, version)) {
      console.log(`${object.kind}/${object.metadata?.name} ${error}`);
      bad += 1;
    }
  }
}
console.log(`${seen} custom resources, ${bad} errors`);
process.exit(bad > 0 || seen === 0 ? 1 : 0);
