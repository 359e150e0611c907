//! The manifests against each other and against the code: what no schema knows. They are rendered by
//! `make k8s-check`, which says where they are.

mod network;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use clientele::suite::{Addresses, SERVICES};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const OVERLAYS: [&str; 2] = ["dev", "prod"];

/// What one overlay makes.
struct Objects(Vec<Value>);

impl Objects {
    fn of(overlay: &str) -> Self {
        let folder = std::env::var("CLIENTELE_TEST_MANIFESTS")
            .expect("If you are here because a test found no manifests: run `make k8s-check`, which makes them");
        let text = std::fs::read(format!("{folder}/{overlay}.json")).unwrap();
        Self(serde_json::from_slice(&text).unwrap())
    }

    fn kind(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    fn find(&self, kind: &'static str, name: &str) -> Option<&Value> {
        self.kind(kind).find(|object| object["metadata"]["name"] == name)
    }

    /// Every template of pods, by its labels, with the name of what makes it.
    fn pods(&self) -> impl Iterator<Item = (&str, &Value)> {
        let made = ["Deployment", "StatefulSet", "Job"].into_iter().flat_map(|kind| self.kind(kind));
        made.map(|object| (text(&object["metadata"]["name"]), &object["spec"]["template"]))
    }

    /// The Deployments of our own eight services.
    fn services(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        names()
            .map(|name| (name, &self.find("Deployment", name).unwrap_or_else(|| panic!("{name} is missing"))["spec"]))
    }

    /// The environment of a service, with what comes from ConfigMaps; secrets are not there and count as empty.
    fn environment(&self, pod: &Value) -> BTreeMap<String, String> {
        let container = &pod["spec"]["containers"][0];
        let mut environment = BTreeMap::new();
        for from in list(&container["envFrom"]) {
            let name = text(&from["configMapRef"]["name"]);
            let map = self.find("ConfigMap", name).unwrap_or_else(|| panic!("there is no ConfigMap {name}"));
            let data = map["data"].as_object().unwrap();
            environment.extend(data.iter().map(|(key, value)| (key.clone(), text(value).to_owned())));
        }
        for variable in list(&container["env"]) {
            let value = variable["value"].as_str().unwrap_or_default();
            environment.insert(text(&variable["name"]).to_owned(), value.to_owned());
        }
        environment
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain([gateway::NAME])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a selector, by labels or expressions, takes what has these labels.
fn takes(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object();
    let all_equal = equal.is_none_or(|equal| equal.iter().all(|(key, value)| labels[key] == *value));
    let is_in = |expression: &Value| {
        assert_eq!(expression["operator"], "In");
        list(&expression["values"]).contains(&labels[text(&expression["key"])])
    };
    all_equal && list(&selector["matchExpressions"]).iter().all(is_in)
}

/// The fields of a configuration, as its own refusal of another one lists them.
fn fields<C: DeserializeOwned>() -> BTreeSet<String> {
    let refused = serde_json::from_value::<C>(json!({"?": 1})).err().unwrap().to_string();
    let (_, expected) = refused.split_once("expected one of ").unwrap();
    let known = expected.split('`').skip(1).step_by(2);
    known.map(|field| format!("CLIENTELE_{}", field.to_uppercase())).collect()
}

#[test]
fn every_variable_is_a_configuration_key_and_every_key_is_set_or_left_out_on_purpose() {
    // A key ring comes as a file; who has no cache or serves no probes is no installation on Kubernetes.
    let left_out = BTreeSet::from(["CLIENTELE_KEY_RING".to_owned()]);
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        for (name, deployment) in objects.services() {
            let environment = objects.environment(&deployment["template"]);
            let set: BTreeSet<String> =
                environment.into_keys().filter(|variable| variable.starts_with("CLIENTELE_")).collect();
            let known =
                if name == gateway::NAME { fields::<gateway::Config>() } else { fields::<server::ServiceConfig>() };
            assert_eq!(set.difference(&known).next(), None, "{overlay}: {name} is given what it does not know");
            let mut missing: BTreeSet<&String> = known.difference(&set).collect();
            missing.retain(|variable| !left_out.contains(*variable));
            // Certificates are a component that dev does without.
            missing.retain(|variable| overlay == "prod" || *variable != "CLIENTELE_TLS_FOLDER");
            // Nobody else reads calendars.
            missing.retain(|variable| name == "insight" || *variable != "CLIENTELE_HOLIDAYS_FOLDER");
            assert!(missing.is_empty(), "{overlay}: {name} is not given {missing:?}");
        }
    }
}

#[test]
fn every_selector_takes_exactly_its_own_pods() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        let taken = |selector: &Value| -> Vec<&str> {
            let taken = objects.pods().filter(|(_, pod)| takes(selector, &pod["metadata"]["labels"]));
            taken.map(|(name, _)| name).collect()
        };
        for kind in ["Deployment", "StatefulSet"] {
            for object in objects.kind(kind) {
                assert_eq!(taken(&object["spec"]["selector"]), [text(&object["metadata"]["name"])], "{overlay}");
            }
        }
        for budget in objects.kind("PodDisruptionBudget") {
            assert_eq!(taken(&budget["spec"]["selector"]), [text(&budget["metadata"]["name"])], "{overlay}");
        }
        for service in objects.kind("Service") {
            let taken = taken(&json!({"matchLabels": service["spec"]["selector"]}));
            assert_eq!(taken.len(), 1, "{overlay}: {} leads to {taken:?}", service["metadata"]["name"]);
        }
        for (name, pod) in objects.pods() {
            for spread in list(&pod["spec"]["topologySpreadConstraints"]) {
                assert_eq!(taken(&spread["labelSelector"]), [name], "{overlay}");
            }
            let account = text(&pod["spec"]["serviceAccountName"]);
            assert!(objects.find("ServiceAccount", account).is_some(), "{overlay}: {name} has no {account}");
        }
        for scaler in objects.kind("HorizontalPodAutoscaler") {
            let of = text(&scaler["spec"]["scaleTargetRef"]["name"]);
            assert_eq!(of, text(&scaler["metadata"]["name"]));
            assert!(objects.find("Deployment", of).is_some(), "{overlay}: nothing to scale: {of}");
        }
    }
}

#[test]
fn every_port_that_is_named_or_probed_exists_and_every_probe_asks_for_what_is_told() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        for service in objects.kind("Service") {
            let selector = json!({"matchLabels": service["spec"]["selector"]});
            let (name, pod) = objects.pods().find(|(_, pod)| takes(&selector, &pod["metadata"]["labels"])).unwrap();
            for port in list(&service["spec"]["ports"]) {
                let target = text(&port["targetPort"]);
                let ports = list(&pod["spec"]["containers"][0]["ports"]);
                let there = ports.iter().find(|port| port["name"] == target);
                assert!(
                    there.is_some_and(|there| there["containerPort"] == port["port"]),
                    "{overlay}: {name} {target}"
                );
            }
        }
        for (name, deployment) in objects.services() {
            let pod = &deployment["template"];
            let container = &pod["spec"]["containers"][0];
            let environment = objects.environment(pod);
            let port_of = |variable: &str| environment[variable].parse::<SocketAddr>().unwrap().port();
            let named = |port: &str| {
                list(&container["ports"]).iter().find(|p| p["name"] == port).unwrap()["containerPort"].clone()
            };
            assert_eq!(named("grpc"), port_of("CLIENTELE_LISTEN"));
            assert_eq!(named("operations"), port_of("CLIENTELE_OPERATIONS_LISTEN"));
            for (probe, asked) in [
                ("startupProbe", server::READINESS),
                ("readinessProbe", server::READINESS),
                ("livenessProbe", server::LIVENESS),
            ] {
                let grpc = &container[probe]["grpc"];
                assert_eq!(grpc["port"], port_of("CLIENTELE_OPERATIONS_LISTEN"), "{overlay}: {name} {probe}");
                assert_eq!(grpc["service"].as_str().unwrap_or_default(), asked, "{overlay}: {name} {probe}");
            }
            // Where others find them.
            for (variable, url) in environment.iter().filter(|(variable, _)| variable.ends_with("_URL")) {
                let Some((host, port)) = url.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':')) else {
                    continue;
                };
                let service = objects.find("Service", host).unwrap_or_else(|| panic!("{variable} leads to nobody"));
                assert_eq!(service["spec"]["clusterIP"], "None", "{variable}: callers balance by call");
                assert_eq!(service["spec"]["ports"][0]["port"], port.parse::<u16>().unwrap());
            }
        }
        for monitor in objects.kind("PodMonitor") {
            for (name, deployment) in objects.services() {
                assert!(takes(&monitor["spec"]["selector"], &deployment["template"]["metadata"]["labels"]), "{name}");
                let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
                let ports = list(&deployment["template"]["spec"]["containers"][0]["ports"]);
                assert!(ports.iter().any(|known| known["name"] == *port), "{name} tells no metrics at {port}");
            }
        }
    }
}

#[test]
fn who_ends_has_time_to_and_somebody_is_always_there() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        for (name, deployment) in objects.services() {
            let pod = &deployment["template"];
            let drain: u64 = objects.environment(pod)["CLIENTELE_DRAIN_SECONDS"].parse().unwrap();
            let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
            // What telemetry may take at the end comes besides.
            assert!(grace > drain + server::DRAIN_CEILING.as_secs() + 7, "{overlay}: {name}");
            // A caller looks a name up every five seconds.
            assert!(drain > 5, "{overlay}: {name}");
            assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0, "{overlay}: {name}");
        }
        for budget in objects.kind("PodDisruptionBudget") {
            let name = text(&budget["metadata"]["name"]);
            let of = objects.find("Deployment", name).or_else(|| objects.find("StatefulSet", name)).unwrap();
            let least = match objects.find("HorizontalPodAutoscaler", name) {
                Some(scaler) => scaler["spec"]["minReplicas"].as_u64().unwrap(),
                None => of["spec"]["replicas"].as_u64().unwrap(),
            };
            assert!(budget["spec"]["minAvailable"].as_u64().unwrap() < least, "{overlay}: {name} could never be moved");
            assert!(of["spec"]["replicas"].as_u64().unwrap() >= least, "{overlay}: {name}");
        }
    }
}

#[test]
fn the_database_has_room_for_all_connections() {
    let objects = Objects::of("prod");
    let cluster = objects.kind("Cluster").next().unwrap();
    let room: u64 = text(&cluster["spec"]["postgresql"]["parameters"]["max_connections"]).parse().unwrap();
    let connections = objects.services().filter(|(name, _)| *name != gateway::NAME).map(|(name, deployment)| {
        let pool: u64 = objects.environment(&deployment["template"])["CLIENTELE_DATABASE_CONNECTIONS"].parse().unwrap();
        // And one that looks whether the database is well; one more replica is there while others are replaced.
        let replicas = objects.find("HorizontalPodAutoscaler", name).unwrap()["spec"]["maxReplicas"].as_u64().unwrap();
        (replicas + 1) * (pool + 1)
    });
    let connections: u64 = connections.sum();
    assert!(connections + 10 < room, "{connections} of {room}");
}

#[test]
fn every_image_is_pinned_and_every_pod_is_held_to_the_least() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        for (name, pod) in objects.pods() {
            let container = &pod["spec"]["containers"][0];
            let image = text(&container["image"]);
            let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
            let is_version = tag.starts_with(|first: char| first.is_ascii_digit()) && tag.contains('.');
            assert!(is_version || image.contains("@sha256:"), "{overlay}: {name} runs whatever {image} is");
            assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 1);
            let (of_pod, own) = (&pod["spec"]["securityContext"], &container["securityContext"]);
            assert_eq!(of_pod["runAsNonRoot"], true, "{overlay}: {name}");
            assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{overlay}: {name}");
            assert_eq!(own["readOnlyRootFilesystem"], true, "{overlay}: {name}");
            assert_eq!(own["allowPrivilegeEscalation"], false, "{overlay}: {name}");
            assert_eq!(own["capabilities"]["drop"], json!(["ALL"]), "{overlay}: {name}");
            assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{overlay}: {name}");
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{overlay}: {name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{overlay}: {name}");
            // What is mounted is there.
            for mount in list(&container["volumeMounts"]) {
                let claimed = objects.find("StatefulSet", name).map(|set| list(&set["spec"]["volumeClaimTemplates"]));
                let claimed = claimed.unwrap_or_default().iter().map(|claim| &claim["metadata"]["name"]);
                let mut volumes = list(&pod["spec"]["volumes"]).iter().map(|volume| &volume["name"]).chain(claimed);
                assert!(volumes.any(|volume| *volume == mount["name"]), "{overlay}: {name} mounts {}", mount["name"]);
            }
        }
        for service in SERVICES {
            let job = objects.find("Job", &format!("{service}-migrate")).unwrap();
            let deployment = objects.find("Deployment", service).unwrap();
            let image = |object: &Value| object["spec"]["template"]["spec"]["containers"][0]["image"].clone();
            assert_eq!(image(job), image(deployment), "{overlay}: {service} is migrated by another version");
        }
    }
}

#[test]
fn every_warning_says_what_to_do_and_every_entry_has_its_warning() {
    let runbook = include_str!("../../k8s/RUNBOOK.md");
    let entries: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let objects = Objects::of("prod");
    let groups = objects.kind("PrometheusRule").flat_map(|rules| list(&rules["spec"]["groups"]));
    let alerts: Vec<&Value> =
        groups.flat_map(|group| list(&group["rules"])).filter(|rule| rule["alert"].is_string()).collect();
    assert_eq!(alerts.iter().map(|alert| text(&alert["alert"])).collect::<BTreeSet<_>>(), entries);
    for alert in alerts {
        let name = text(&alert["alert"]);
        assert_eq!(alert["annotations"]["runbook"], format!("RUNBOOK.md#{}", name.to_lowercase()));
        assert!(["page", "ticket"].contains(&text(&alert["labels"]["severity"])), "{name}");
        // Each is tried by promtool.
        assert!(include_str!("alerts.yml").contains(&format!("alertname: {name}\n")), "{name} has no test");
    }
}

/// Addresses that tell who is meant.
fn addresses() -> Addresses {
    std::array::from_fn(|i| SocketAddr::from(([127, 0, 0, 1], 1 + i as u16)))
}
