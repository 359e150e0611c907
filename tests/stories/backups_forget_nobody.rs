use std::{path::Path, process::Output};

use client::Client;
use clientele::{
    keys::Keys,
    suite::{Plan, SERVICES, Suite},
};
use proto::{contact::v1::*, customer::v1::*, profile::v1::*};
use tests::{Fixture, Installation, get, plan, reason, soak};

async fn clientele(arguments: &[&str]) -> Output {
    tokio::process::Command::new(tests::binary("clientele")).args(arguments).output().await.unwrap()
}

async fn done(arguments: &[&str]) {
    let output = clientele(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn refused(arguments: &[&str], with: &str) {
    let output = clientele(arguments).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(with), "{told}");
}

fn backup<'a>(url: &'a str, ring: &'a str, to: &'a str, keys_to: &'a str) -> [&'a str; 9] {
    ["backup", "--database-url", url, "--key-ring-file", ring, "--to", to, "--keys-to", keys_to]
}

fn restore<'a>(url: &'a str, ring: &'a str, from: &'a str) -> [&'a str; 7] {
    ["restore", "--database-url", url, "--key-ring-file", ring, "--from", from]
}

/// A new database with the secrets of an installation that was.
async fn another(state: &Path) -> Plan {
    let (new, _) = plan().await;
    let mut keys = Keys::load(state).unwrap();
    keys.passwords = SERVICES.map(|service| (service.to_owned(), "test".to_owned())).into();
    Plan { keys, erasure_journal: state.join("erasures"), ..new }
}

/// What a customer's view says, without what a restore renews.
async fn seen(client: &Client, customer: &Fixture) -> Customer {
    let mut seen = get(client, &customer.customer_id, Vec::new()).await.unwrap();
    seen.section_states.clear();
    for balance in
        seen.loyalty.iter_mut().flat_map(|loyalty| &mut loyalty.memberships).filter_map(|m| m.balance.as_mut())
    {
        balance.as_of = None;
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_erased_after_a_backup_stays_erased_when_it_is_restored() {
    let Installation { suite, plan, state } = Installation::start().await;
    let installation = Installation { suite, plan, state };
    let client = installation.client();
    let mut customers = Vec::new();
    for _ in 0..soak("DRILL", 3) {
        customers.push(Fixture::create(&client).await);
    }
    let mut before = Vec::new();
    for customer in &customers {
        before.push(seen(&client, customer).await);
    }

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ring = installation.plan.keys.key_ring_file().display().to_string();
    let (to, keys) = (path("database"), path("keys"));
    let url = installation.plan.database_url.clone();
    refused(&backup(&url, &ring, &to, &format!("{to}/keys")), "must lie apart").await;
    // A ring that does not open it is no key to it.
    let foreign = path("foreign.json");
    std::fs::write(&foreign, vault::KeyRing::generate().to_json()).unwrap();
    refused(&backup(&url, &foreign, &to, &keys), "does not fit").await;
    done(&backup(&url, &ring, &to, &keys)).await;

    // Erased after the backup, which still has the keys.
    let erased = customers.remove(0);
    before.remove(0);
    installation.destroy_keys(&erased.customer_id).await;
    let Installation { suite, state, .. } = installation;
    suite.stop().await.unwrap();

    let new = another(state.path()).await;
    let url = new.database_url.clone();
    refused(&restore(&url, &ring, &keys), "holds no finished backup").await;
    // With a ring that does not open it nothing is touched.
    refused(&restore(&url, &foreign, &to), "does not fit").await;
    let ring = format!("{keys}/key-ring.json");
    done(&restore(&url, &ring, &to)).await;
    refused(&restore(&url, &ring, &to), "has tables already").await;

    // Without the journal nobody would know who was erased.
    let lost = Plan { erasure_journal: folder.path().join("none"), ..another(state.path()).await };
    let lost = Plan { database_url: new.database_url.clone(), ..lost };
    let refusal = format!("{:#}", Suite::start(&lost).await.err().unwrap());
    assert!(refusal.contains("belongs to another database"), "{refusal}");

    // A line that was cut short belongs to an erasure that was never begun; one that is damaged might hide somebody.
    let line = state.path().join("erasures/profile/cut.ndjson");
    std::fs::write(&line, format!("{{\"customer_id\":\"{}", customers[0].customer_id)).unwrap();
    let damaged = state.path().join("erasures/consent/damaged.ndjson");
    std::fs::write(&damaged, "{\"customer_id\":\n").unwrap();
    let refusal = format!("{:#}", Suite::start(&new).await.err().unwrap());
    assert!(refusal.contains("is no erasure"), "{refusal}");
    std::fs::remove_file(&damaged).unwrap();

    let suite = Suite::start(&new).await.unwrap();
    let installation = Installation { suite, plan: new, state };
    let client = installation.client();
    let status = get(&client, &erased.customer_id, Vec::new()).await.err().unwrap();
    assert_eq!(reason(&status), "CUSTOMER_ERASED");
    let request = GetContactPointRequest { contact_point_id: erased.contact_point_id.clone(), ..Default::default() };
    assert_eq!(reason(&client.contact().get_contact_point(request).await.err().unwrap()), "CUSTOMER_ERASED");
    let request = GetProfileRequest { customer_id: erased.customer_id.clone(), ..Default::default() };
    assert_eq!(reason(&client.profile().get_profile(request).await.err().unwrap()), "CUSTOMER_ERASED");
    for service in SERVICES {
        let left = sqlx::AssertSqlSafe(format!(
            "select count(*) from {}.data_keys where owner_id = $1 and wrapped is not null",
            service.replace('-', "_")
        ));
        let customer: uuid::Uuid = erased.customer_id.parse().unwrap();
        let left: i64 = sqlx::query_scalar(left).bind(customer).fetch_one(&mut installation.sql().await).await.unwrap();
        assert_eq!(left, 0, "{service}");
    }
    for (customer, before) in customers.iter().zip(before) {
        assert!(seen(&client, customer).await == before, "everybody else is as they were");
    }
    // And is served on, as before.
    tests::accrue(&client, &customers[0].member_id).await;

    // A backup that was altered is no backup.
    let dump = format!("{to}/database.dump");
    let mut bytes = std::fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&dump, bytes).unwrap();
    refused(&restore(&url, &ring, &to), "is damaged").await;
    installation.suite.stop().await.unwrap();
}
