use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use tests::{Installation, binary};

fn sample() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../services/clientele/data/cdnow_sample.txt")
}

fn command(installation: &Installation, kind: &str, file: &std::path::Path) -> Command {
    let mut command = Command::new(binary("clientele"));
    command.args(["import", kind]).arg(file).args(["--url", &installation.url(), "--token", &installation.token()]);
    command.arg("--state").arg(installation.state.path());
    command
}

async fn run(mut command: Command) -> (Output, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// The file's own total, in cents, read without any of our code.
fn cents_in_sample() -> i64 {
    let text = std::fs::read_to_string(sample()).unwrap();
    let dollars = text.lines().filter_map(|row| row.split_whitespace().last());
    dollars.map(|dollars| dollars.replace('.', "").parse::<i64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_and_run_again_is_whole_and_the_next_changes_nothing() {
    let installation = Installation::start().await;
    let mut killed = command(&installation, "cdnow", &sample()).spawn().unwrap();
    let orders = "select count(*) from order_history.orders";
    for _ in 0..1200 {
        if installation.count(orders).await > 1000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = installation.count(orders).await;
    assert!(before > 1000, "{before}");

    let (output, text) = run(command(&installation, "cdnow", &sample())).await;
    assert!(output.status.success(), "{text}");
    assert_eq!(installation.count(orders).await, 6919);
    assert_eq!(installation.count("select count(*) from profile.profiles").await, 2357);
    let total = "select sum(total_minor)::bigint from order_history.orders";
    assert_eq!(installation.count(total).await, cents_in_sample());
    let gross = "select sum(gross_minor)::bigint from order_history.order_summaries";
    assert_eq!(installation.count(gross).await, cents_in_sample());

    let changes = installation.count("select count(*) from order_history.changes").await;
    let (output, text) = run(command(&installation, "cdnow", &sample())).await;
    assert!(
        output.status.success() && text.contains("orders: 0 created, 6919 unchanged, 0 revised, 0 refused"),
        "{text}"
    );
    assert!(text.contains("customers: 0 created, 2357 unchanged"), "{text}");
    assert_eq!(installation.count("select count(*) from order_history.changes").await, changes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_refused_are_named_by_their_line() {
    let installation = Installation::start().await;
    let file = installation.state.path().join("rows.ndjson");
    let id = uuid::Uuid::new_v4();
    let rows = [
        format!(r#"{{"profile": {{"customer_id": "{id}", "language": "en"}}}}"#),
        format!(
            r#"{{"order": {{"customer_id": "{id}", "source": "shop", "number": "1", "placed_time": "2026-01-01T00:00:00Z", "currency_code": "EUR", "total_minor": 5, "lines": [{{"line_number": 1, "sku": "A", "quantity": 1, "amount_minor": 5}}]}}}}"#
        ),
        format!(
            r#"{{"order": {{"customer_id": "{id}", "source": "shop", "number": "2", "placed_time": "2026-01-01T00:00:00Z", "currency_code": "EUR", "total_minor": 6, "lines": [{{"line_number": 1, "sku": "A", "quantity": 1, "amount_minor": 5}}]}}}}"#
        ),
        format!(r#"{{"interaction": {{"customer_id": "{id}", "occurred_time": "2026-01-01T00:00:00Z"}}}}"#),
        r#"{"interaction": {"unknown_field": 1}}"#.to_owned(),
    ];
    std::fs::write(&file, rows.join("\n")).unwrap();
    let errors = installation.state.path().join("errors.ndjson");
    let mut import = command(&installation, "ndjson", &file);
    import.arg("--errors").arg(&errors);
    let (output, text) = run(import).await;
    assert!(!output.status.success());
    assert!(text.contains("orders: 1 created, 0 unchanged, 0 revised, 1 refused"), "{text}");
    assert!(text.contains("interactions: 1 created"), "{text}");
    let errors = std::fs::read_to_string(errors).unwrap();
    let lines: Vec<serde_json::Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: Vec<_> = lines.iter().map(|e| (e["line"].as_i64().unwrap(), e["reason"].as_str().unwrap())).collect();
    assert_eq!(named, [(5, "INVALID_ROW"), (3, "INVALID_FIELDS")]);
}
