//! Who may speak with whom, against who does.

use std::{collections::BTreeSet, path::PathBuf};

use clientele::suite::{Issuer, Plan, SERVICES};
use serde_json::{Value, json};

use crate::{OVERLAYS, Objects, addresses, list, names, takes, text};

const GRPC: u16 = 50051;

/// Pairs of caller and called.
type Edges = BTreeSet<(String, String)>;

/// Who calls whom, as the code configures its processes.
fn calls() -> Edges {
    let state = tempfile::TempDir::new().unwrap();
    let plan = Plan {
        database_url: "postgres://localhost/x".into(),
        keys: clientele::keys::Keys::load_or_create(state.path()).unwrap(),
        erasure_journal: PathBuf::new(),
        issuer: Issuer { jwks: None, issuer: None, audience: None },
        listen: ([127, 0, 0, 1], 0).into(),
        redis_url: None,
        redis_users: false,
        connections: 1,
        min_group_size: 10,
        holidays_folder: None,
    };
    let mut calls = Edges::new();
    for caller in SERVICES {
        let config = plan.service(caller, &addresses()).unwrap();
        let urls = [
            config.profile_url,
            config.contact_url,
            config.order_history_url,
            config.interaction_url,
            config.loyalty_url,
            config.consent_url,
        ];
        let called = SERVICES.into_iter().zip(urls).filter(|(_, url)| url.is_some());
        calls.extend(called.map(|(called, _)| (caller.to_owned(), called.to_owned())));
    }
    calls.extend(SERVICES.map(|called| (gateway::NAME.to_owned(), called.to_owned())));
    calls
}

/// Between which pods a port is open, by both sides' policies.
fn open(objects: &Objects, port: u16) -> Edges {
    let pods: Vec<(&str, &Value)> = objects.pods().collect();
    let passes = |rule: &Value, side: &str, other: &Value| {
        let ports = list(&rule["ports"]);
        let is_port = ports.is_empty() || ports.iter().any(|open| open["port"] == port);
        let peers = list(&rule[side]);
        let is_peer = |peer: &Value| {
            // Other namespaces have none of these pods.
            peer["namespaceSelector"].is_null() && takes(&peer["podSelector"], &other["metadata"]["labels"])
        };
        is_port && (peers.is_empty() || peers.iter().any(is_peer))
    };
    let may = |of: &Value, other: &Value, direction: &str, side: &str| {
        objects.kind("NetworkPolicy").any(|policy| {
            let spec = &policy["spec"];
            takes(&spec["podSelector"], &of["metadata"]["labels"])
                && list(&spec[direction]).iter().any(|rule| passes(rule, side, other))
        })
    };
    let mut open = Edges::new();
    for (caller, from) in &pods {
        for (called, to) in &pods {
            if may(from, to, "egress", "to") && may(to, from, "ingress", "from") {
                open.insert(((*caller).to_owned(), (*called).to_owned()));
            }
        }
    }
    open
}

#[test]
fn services_speak_with_those_they_call_and_with_nobody_else() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        let ours = |name: &str| names().any(|known| known == name);
        let between: Edges = open(&objects, GRPC).into_iter().filter(|(a, b)| ours(a) && ours(b)).collect();
        assert_eq!(between, calls(), "{overlay}");
    }
}

#[test]
fn only_who_needs_a_store_reaches_it() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        let cache: BTreeSet<String> =
            open(&objects, 6379).into_iter().filter(|(_, to)| to == "valkey").map(|(from, _)| from).collect();
        let expected = names().chain(["valkey", "valkey-join"]).map(str::to_owned).collect();
        assert_eq!(cache, expected, "{overlay}");
    }
    // On dev the database is one of the pods; in production the operator makes them.
    let objects = Objects::of("dev");
    let database: BTreeSet<String> =
        open(&objects, 5432).into_iter().filter(|(_, to)| to == "postgres").map(|(from, _)| from).collect();
    let mut expected: BTreeSet<String> =
        SERVICES.into_iter().flat_map(|name| [name.to_owned(), format!("{name}-migrate")]).collect();
    expected.insert("postgres".into());
    assert_eq!(database, expected);
}

#[test]
fn what_no_policy_names_is_closed() {
    for overlay in OVERLAYS {
        let objects = Objects::of(overlay);
        let deny = objects.find("NetworkPolicy", "default-deny").unwrap();
        assert_eq!(deny["spec"]["podSelector"], json!({}));
        assert_eq!(deny["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert!(deny["spec"]["ingress"].is_null() && deny["spec"]["egress"].is_null());
        for policy in objects.kind("NetworkPolicy") {
            for (direction, kind) in [("ingress", "Ingress"), ("egress", "Egress")] {
                let is_said = list(&policy["spec"]["policyTypes"]).iter().any(|known| known == kind);
                assert!(is_said || policy["spec"][direction].is_null(), "{}", text(&policy["metadata"]["name"]));
            }
        }
    }
}
