use std::{env, path::Path, process::Command};

use tests::{Fixture, Installation};

async fn run(program_variable: &str, script: &str) {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    for i in 0..4 {
        let order = tests::order(&fixture.customer_id, &format!("{}-{i}", fixture.tag));
        let request = proto::order_history::v1::RecordOrderRequest { order: Some(order) };
        client.order_history().record_order(request).await.unwrap();
    }
    let program = env::var(program_variable)
        .unwrap_or_else(|_| panic!("If you are here because {program_variable} is not set: run `make test`"));
    let descriptors = installation.state.path().join("clientele.binpb");
    std::fs::write(&descriptors, proto::DESCRIPTOR_SET).unwrap();
    let mut command = Command::new(program);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .arg(installation.suite.address.to_string())
        .arg(installation.token())
        .arg(format!("{}@example.org", fixture.tag))
        .arg(&fixture.customer_id)
        .arg(descriptors);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("5 orders in 3 pages"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_discovers_looks_up_pages_and_reads_violations() {
    run("CLIENTELE_TEST_PYTHON", "clients/client.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_client_discovers_looks_up_pages_and_reads_violations() {
    run("CLIENTELE_TEST_NODE", "clients/client.js").await;
}
