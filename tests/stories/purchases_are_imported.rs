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
    command.args(["import", kind]).arg(file);
    command.env("CLIENTELE_URL", installation.url()).env("CLIENTELE_TOKEN", installation.token());
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
    // It went on where it was, and did not begin again.
    let [created, unchanged] = counts(&text, "orders");
    assert!(created + unchanged < 6919 - 400, "{text}");
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

/// How many were created, and how many were there.
fn counts(text: &str, what: &str) -> [i64; 2] {
    let line = text.lines().find(|line| line.starts_with(&format!("{what}:"))).unwrap();
    let numbers: Vec<i64> = line.split([' ', ':']).filter_map(|word| word.parse().ok()).collect();
    [numbers[0], numbers[1]]
}

fn row(customer_id: &uuid::Uuid, number: usize, total: i64) -> String {
    format!(
        r#"{{"order": {{"customer_id": "{customer_id}", "source": "shop", "number": "{number}", "placed_time": "2026-01-01T00:00:00Z", "currency_code": "EUR", "total_minor": {total}, "lines": [{{"line_number": 1, "sku": "A", "quantity": 1, "amount_minor": 5}}]}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_broke_off_forgets_no_refused_row_and_knows_its_database() {
    let installation = Installation::start().await;
    let id = uuid::Uuid::new_v4();
    let profile = format!(r#"{{"profile": {{"customer_id": "{id}"}}}}"#);
    let orders = (1..=700).map(|number| row(&id, number, if number == 10 { 6 } else { 5 }));
    let file = installation.state.path().join("rows.ndjson");
    std::fs::write(&file, [profile].into_iter().chain(orders).collect::<Vec<_>>().join("\n")).unwrap();
    let (output, _) = run(command(&installation, "ndjson", &file)).await;
    assert!(!output.status.success());
    let imports = installation.state.path().join("imports");
    let named = |extension: &str| {
        let files = std::fs::read_dir(&imports).unwrap().map(|file| file.unwrap().path());
        files.into_iter().find(|path| path.to_str().unwrap().ends_with(extension))
    };
    let errors = named(".errors.ndjson").unwrap();
    let refused = std::fs::read_to_string(&errors).unwrap();
    assert_eq!(refused.lines().count(), 1);

    // As if it had been killed after six hundred.
    let progress = PathBuf::from(errors.to_str().unwrap().replace(".errors.ndjson", ".orders"));
    std::fs::write(&progress, "600").unwrap();
    let (output, text) = run(command(&installation, "ndjson", &file)).await;
    assert_eq!(counts(&text, "orders"), [0, 101], "{text}");
    assert!(!output.status.success(), "the refused row was forgotten");
    assert_eq!(std::fs::read_to_string(&errors).unwrap(), refused);
    assert!(!progress.exists());

    // The same progress against another database is none.
    let other = Installation::start().await;
    std::fs::write(&progress, "600").unwrap();
    let mut import = command(&installation, "ndjson", &file);
    import.env("CLIENTELE_URL", other.url()).env("CLIENTELE_TOKEN", other.token());
    let (_, text) = run(import).await;
    assert_eq!(other.count("select count(*) from order_history.orders").await, 699, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_taken_out_changes_nothing_about_the_others() {
    let installation = Installation::start().await;
    let file = installation.state.path().join("rows.ndjson");
    let (id, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let profile = |id, external: &str| {
        format!(r#"{{"profile": {{"customer_id": "{id}", "external_ids": [{{"system": "{external}", "id": "1"}}]}}}}"#)
    };
    let call = format!(r#"{{"interaction": {{"customer_id": "{id}", "occurred_time": "2026-01-01T00:00:00Z"}}}}"#);
    // The second has an external id that is none.
    let calls = [call.clone(), call.clone(), call].join("\n");
    std::fs::write(&file, [profile(id, "crm"), profile(other, "CRM"), calls.clone()].join("\n")).unwrap();
    let (output, text) = run(command(&installation, "ndjson", &file)).await;
    assert!(!output.status.success());
    assert_eq!(counts(&text, "customers"), [1, 0], "{text}");
    assert_eq!(counts(&text, "interactions"), [3, 0], "{text}");
    // And now it has somebody else's.
    std::fs::write(&file, [profile(id, "crm"), profile(other, "crm"), calls].join("\n")).unwrap();
    let (output, text) = run(command(&installation, "ndjson", &file)).await;
    assert!(!output.status.success());
    assert_eq!(counts(&text, "customers"), [0, 1], "{text}");
    assert_eq!(counts(&text, "interactions"), [0, 3], "{text}");
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
    assert_eq!(named, [(3, "INVALID_FIELDS"), (5, "INVALID_ROW")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_goes_in_by_its_mapping_and_again_changes_nothing() {
    let installation = Installation::start().await;
    let folder = installation.state.path();
    let (file, mapping) = (folder.join("customers.csv"), folder.join("mapping.json"));
    let errors = folder.join("errors.ndjson");
    std::fs::write(
        &mapping,
        r#"{"profile": {"external_ids": [{"system": "crm", "id": "{id}"}], "birth_date": "{born|%Y%m%d}",
                        "name": {"given_name": "{first}", "family_name": "{last}"}},
            "contact_points": [{"email": {"address": "{mail}"}},
                               {"postal_address": {"region_code": "DE", "address_lines": ["{street!} {house}"],
                                                   "locality": "{city}", "postal_code": "{code}"}}]}"#,
    )
    .unwrap();
    let rows = "id, first, last, born, mail, street, house, city, code\r\n\
        1, Ada, Müller, 19800229, ada@example.org, Unter den Linden, 77, Berlin, 10117\r\n\
        2,\"Ben, Jr.\", , , , , , ,\n\
        3, Eve, Schmidt, 19810229, eve@example.org, , 9, Ulm,\r\n\
        4, Jo, Groß, 19900101, jo(at)example.org, Hauptstr., 1, Bonn, 5311\n\
        5, too, many, , , , , , , cells\n\
        6, Tom, Weiß, , tom@example.org, , 3, Ulm, 89073\n";
    std::fs::write(&file, rows).unwrap();
    let import = |dry_run: bool| {
        let mut import = command(&installation, "csv", &file);
        import.arg("--mapping").arg(&mapping).arg("--errors").arg(&errors);
        import.args(dry_run.then_some("--dry-run"));
        run(import)
    };
    let refused = || -> Vec<(i64, String, Vec<String>)> {
        let text = std::fs::read_to_string(&errors).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let field = |field: &serde_json::Value| field.as_str().unwrap().split(": ").next().unwrap().to_owned();
        rows.map(|row| {
            let fields = row["invalid_fields"].as_array().unwrap().iter().map(field).collect();
            (row["line"].as_i64().unwrap(), row["reason"].as_str().unwrap().to_owned(), fields)
        })
        .collect()
    };
    let expected = [
        (4, "INVALID_ROW".to_owned(), vec!["born".to_owned()]),
        (
            5,
            "INVALID_FIELDS".to_owned(),
            vec![
                "contact_points[0] contact_point.email.address".to_owned(),
                "contact_points[1] contact_point.postal_address.postal_code".to_owned(),
            ],
        ),
        (6, "INVALID_ROW".to_owned(), vec!["is not as wide as the header, or no text".to_owned()]),
    ];
    let profiles = "select count(*) from profile.profiles";
    let points = "select count(*) from contact.contact_points";
    let (output, text) = import(true).await;
    assert!(!output.status.success() && text.contains("customers: 4 created"), "{text}");
    assert_eq!(refused(), expected);
    assert_eq!(installation.count(profiles).await, 0, "a dry run writes nothing");

    let (_, text) = import(false).await;
    assert!(text.contains("customers: 4 created, 0 unchanged, 0 revised, 0 refused"), "{text}");
    assert!(text.contains("contact points: 3 created, 0 unchanged, 0 revised, 2 refused"), "{text}");
    assert_eq!(refused(), expected, "as the dry run foretold");
    assert_eq!((installation.count(profiles).await, installation.count(points).await), (4, 3));
    let changes = "select (select count(*) from profile.changes) + (select count(*) from contact.changes)";
    let before = installation.count(changes).await;
    let (_, text) = import(false).await;
    assert!(text.contains("customers: 0 created, 4 unchanged"), "{text}");
    assert!(text.contains("contact points: 0 created, 3 unchanged, 0 revised, 2 refused"), "{text}");
    assert_eq!(installation.count(changes).await, before);

    for (wrong, told) in [
        (r#"{"profile": {"language": "{tongue}"}}"#, "no column tongue"),
        (r#"{"profile": {"pronouns": "born {born|%Y}"}}"#, "stands alone"),
    ] {
        std::fs::write(&mapping, wrong).unwrap();
        let (output, _) = import(false).await;
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{told}");
    }

    // Rows that say the same in what is mapped are customers of their own; an id that is there twice, and what follows
    // a quote that nobody closes, are refused and named.
    std::fs::write(&mapping, r#"{"profile": {"name": {"given_name": "{first}"}}}"#).unwrap();
    std::fs::write(&file, "id,first,note\n1,Anna,\n2,Anna,\n3,Ben,\"x\n4,Cem,\n5,Dan,\n").unwrap();
    let (_, text) = import(false).await;
    assert!(text.contains("customers: 2 created"), "{text}");
    assert_eq!(refused()[0].0, 4, "{text}");
    std::fs::write(
        &mapping,
        r#"{"profile": {"language": "{tongue}", "external_ids": [{"system": "x", "id": "{id}"}]}}"#,
    )
    .unwrap();
    std::fs::write(&file, "id,tongue\n1,en\n2,!\n1,de\n2,fr\n").unwrap();
    for dry_run in [true, false, false] {
        import(dry_run).await;
        let named: Vec<_> = refused().into_iter().map(|(line, reason, _)| (line, reason)).collect();
        assert_eq!(named, [(3, "INVALID_FIELDS".to_owned()), (4, "EXTERNAL_ID_TAKEN".to_owned())]);
    }
    // In the other spelling of the JSON mapping too, and nothing else is taken for nothing.
    let row = |points: &str| {
        format!(
            r#"{{"customer": {{"profile": {{"language": "en"}}, "{points}": [{{"email": {{"address": "z@example.org"}}}}]}}}}"#
        )
    };
    std::fs::write(&file, [row("contactPoints"), row("contact_point")].join("\n")).unwrap();
    let mut ndjson = command(&installation, "ndjson", &file);
    ndjson.arg("--errors").arg(&errors);
    let (_, text) = run(ndjson).await;
    assert!(text.contains("contact points: 1 created"), "{text}");
    assert_eq!(
        refused().into_iter().map(|(line, reason, _)| (line, reason)).collect::<Vec<_>>(),
        [(2, "INVALID_ROW".to_owned())]
    );
}
