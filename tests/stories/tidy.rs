//! The rules that a machine can judge.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::DescriptorPool;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
}

/// The crates of this workspace that a crate depends on.
fn edges(manifest: &str, ours: &BTreeSet<String>) -> BTreeSet<String> {
    let text = read(manifest);
    let dependencies = text.split("[dependencies]").nth(1).unwrap_or_default().split("\n[").next().unwrap().to_owned();
    let keys = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next().map(str::to_owned));
    keys.filter(|key| ours.contains(key)).collect()
}

#[test]
fn crates_depend_downwards_only() {
    let (services, libs) = (names("services"), names("libs"));
    let ours: BTreeSet<String> = services.union(&libs).cloned().collect();
    // What each lib may know of the others; nothing here knows a service.
    let allowed: [(&str, &[&str]); 11] = [
        ("error", &[]),
        ("metrics", &[]),
        ("tls", &[]),
        ("vault", &[]),
        ("proto", &["error"]),
        ("access", &["error"]),
        ("client", &["access", "error", "metrics", "proto", "tls"]),
        ("cache", &["error", "metrics", "proto", "vault"]),
        ("server", &["access", "cache", "client", "error", "metrics", "proto", "tls", "vault"]),
        ("store", &["access", "cache", "client", "error", "metrics", "proto", "server", "vault"]),
        ("feed", &["access", "cache", "client", "error", "metrics", "proto", "server", "store"]),
    ];
    assert_eq!(libs, allowed.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (lib, allowed) in allowed {
        let edges = edges(&format!("libs/{lib}/Cargo.toml"), &ours);
        let beyond: Vec<_> = edges.iter().filter(|edge| !allowed.contains(&edge.as_str())).collect();
        assert!(
            beyond.is_empty(),
            "If you are here because libs/{lib} needs {beyond:?}: libs point downwards (ARCHITECTURE.md)"
        );
    }
    for service in services.iter().filter(|service| *service != "clientele") {
        let edges = edges(&format!("services/{service}/Cargo.toml"), &ours);
        let others: Vec<_> = edges.intersection(&services).collect();
        assert!(others.is_empty(), "If you are here because {service} needs {others:?}: services meet over the wire");
    }
}

#[test]
fn a_service_has_one_name_everywhere() {
    let containers = read("k8s/base/kustomization.yaml");
    for service in names("services") {
        let manifest = read(&format!("services/{service}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{service}\"")), "{service}");
        if service == "clientele" {
            continue;
        }
        let lib = read(&format!("services/{service}/src/lib.rs"));
        assert!(lib.contains(&format!("pub const NAME: &str = \"{service}\"")), "{service}");
        assert!(containers.contains(&format!("  - {service}\n")), "{service} is not deployed");
        if service != "gateway" {
            let proto = root().join("proto/clientele").join(service.replace('-', "_"));
            assert!(proto.is_dir(), "{service} has no contract");
        }
    }
}

#[test]
fn each_crate_of_the_stack_does_its_job() {
    for (path, job) in [
        ("libs/server/src/serve.rs", "tonic::"),
        ("libs/client/src/channel.rs", "tower::"),
        ("libs/proto/src/codec.rs", "prost::Message"),
        ("libs/store/src/transaction.rs", "tokio::spawn"),
        ("libs/store/src/anchor.rs", "sqlx::query!"),
        ("libs/server/src/layers.rs", "impl<S> Layer<S>"),
        ("libs/server/src/trace.rs", "opentelemetry::"),
        ("libs/server/src/telemetry.rs", "tracing_opentelemetry::layer"),
        ("libs/client/src/credentials.rs", "OpenTelemetrySpanExt"),
    ] {
        assert!(read(path).contains(job), "If you are here because {job} left {path}: name its new place");
    }
    let mut offline = 0;
    for folder in names("services").iter().map(|s| format!("services/{s}")).chain(["libs/store".to_owned()]) {
        let sqlx = root().join(&folder).join(".sqlx");
        let checked = {
            let mut sources = Vec::new();
            files(&root().join(&folder).join("src"), ".rs", &mut sources);
            sources.iter().any(|source| fs::read_to_string(source).unwrap().contains("sqlx::query"))
        };
        if checked && folder != "services/clientele" {
            offline += fs::read_dir(&sqlx).unwrap_or_else(|_| panic!("{folder} has no offline data")).count();
        }
    }
    assert!(offline > 80, "{offline}");
}

#[test]
fn every_reason_is_documented_in_its_contract() {
    let documented = |reasons: &str, folder: &str| {
        let mut protos = Vec::new();
        files(&root().join(folder), ".proto", &mut protos);
        let text: String = protos.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let source = read(reasons);
        let declared =
            source.split("pub const ").skip(1).filter(|rest| rest.split('=').next().unwrap().contains(": Reason"));
        let mut count = 0;
        for name in declared.map(|rest| rest.split(':').next().unwrap().trim().to_owned()) {
            count += 1;
            assert!(
                text.contains(&format!("{name}`")),
                "If you are here because of {name}: say in {folder} which RPC answers it"
            );
        }
        assert!(count > 0, "{reasons}");
    };
    documented("libs/error/src/reason.rs", "proto/clientele");
    for service in names("services").iter().filter(|service| *service != "clientele") {
        let folder = if service == "gateway" { "customer".to_owned() } else { service.replace('-', "_") };
        documented(&format!("services/{service}/src/reason.rs"), &format!("proto/clientele/{folder}"));
    }
}

#[test]
fn every_field_declares_a_category() {
    let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
    let category = pool.get_extension_by_name("clientele.type.v1.category").unwrap();
    let messages = pool.all_messages().filter(|message| message.full_name().starts_with("clientele."));
    let mut fields = 0;
    for field in messages.flat_map(|message| message.fields().collect::<Vec<_>>()) {
        fields += 1;
        let declared = field.options().get_extension(&category).as_enum_number();
        assert!(declared.is_some_and(|number| number > 0), "{} declares no category", field.full_name());
    }
    assert!(fields > 300);
}

#[test]
fn no_message_can_be_printed() {
    assert!(read("libs/proto/build.rs").contains(r#".skip_debug(["."])"#));
    // What else holds a person's values has no Debug either. These hold ids, amounts and times.
    let harmless = [
        "struct Position",
        "struct Lot",
        "struct Posting",
        "struct Summary",
        "struct Record",
        "struct Answer",
        "struct TextJson",
    ];
    let mut sources = Vec::new();
    files(&root().join("services"), ".rs", &mut sources);
    for source in sources {
        let text = fs::read_to_string(&source).unwrap();
        let text = text.split("#[cfg(test)]\nmod").next().unwrap();
        for derived in text.split("#[derive(").skip(1).filter(|rest| rest.split(')').next().unwrap().contains("Debug"))
        {
            let item = derived.lines().find(|line| line.contains("struct ") || line.contains("enum ")).unwrap();
            assert!(
                harmless.iter().any(|name| item.contains(name)),
                "If you are here because {} prints {item}: take its Debug away, or say here why it may",
                source.display()
            );
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let mut sources = Vec::new();
    for folder in ["services", "libs", "tests", "proto"] {
        files(&root().join(folder), ".rs", &mut sources);
        files(&root().join(folder), ".proto", &mut sources);
    }
    // Written apart, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["unimplemented", "!("], ["todo", "!("], ["max_connection", "_age"]];
    for source in sources.iter().filter(|source| !source.to_str().unwrap().contains("node_modules")) {
        let text = fs::read_to_string(source).unwrap();
        for word in words.map(|word| word.concat()) {
            assert!(!text.contains(&word), "{}: {word}", source.display());
        }
    }
}
