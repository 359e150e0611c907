use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clientele::suite::Suite;
use proto::contact::v1::*;
use sqlx::{Connection, PgConnection};
use tests::{Fixture, Installation, Processes, get, reason};
use uuid::Uuid;
use vault::{DataKey, KeyRing, ServiceKeys, WrappedServiceKey};

/// So many data keys are wrapped anew.
fn keys_wanted() -> i64 {
    tests::soak("KEYS", 20_000) as i64
}

/// Data keys of customers who have nothing else.
async fn make_keys(sql: &mut PgConnection, ring: &KeyRing) {
    let stored: Vec<(i32, String, Vec<u8>)> =
        sqlx::query_as("select number, wrapped_by, wrapped from contact.service_keys")
            .fetch_all(&mut *sql)
            .await
            .unwrap();
    let stored =
        stored.into_iter().map(|(number, wrapped_by, wrapped)| WrappedServiceKey { number, wrapped_by, wrapped });
    let service = ServiceKeys::open("contact", &stored.collect::<Vec<_>>(), ring).await.unwrap();
    for _ in 0..keys_wanted() / 10_000 {
        let made: Vec<DataKey> = (0..10_000).map(|_| DataKey::generate()).collect();
        let ids: Vec<Uuid> = made.iter().map(DataKey::id).collect();
        let wrapped: Vec<Vec<u8>> = made.iter().map(|key| key.wrap(&service).1).collect();
        let insert = "insert into contact.data_keys (key_id, owner_id, service_key, wrapped)
            select id, gen_random_uuid(), 1, wrapped from unnest($1::uuid[], $2::bytea[]) as new (id, wrapped)";
        sqlx::query(insert).bind(ids).bind(wrapped).execute(&mut *sql).await.unwrap();
    }
}

/// How many data keys a service key still wraps.
async fn left(sql: &mut PgConnection, number: i32) -> i64 {
    let query = "select count(*) from contact.data_keys where service_key = $1";
    sqlx::query_scalar(query).bind(number).fetch_one(sql).await.unwrap()
}

fn rotate_keys(processes: &Processes) -> tokio::process::Child {
    let mut rotate = tokio::process::Command::new(tests::binary("clientele"));
    rotate.args(["rotate-keys", "--database-url", &processes.plan.database_url, "--key-ring-file"]);
    rotate.arg(processes.plan.keys.key_ring_file()).stdout(std::process::Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_keys_are_wrapped_anew_while_everything_is_served() {
    let processes = Processes::start(&[]).await;
    let client = processes.client();
    let fixture = Fixture::create(&client).await;
    let mut sql = PgConnection::connect(&processes.plan.database_url).await.unwrap();
    make_keys(&mut sql, &KeyRing::read(&processes.plan.keys.key_ring_file()).unwrap()).await;
    let sealed = "select md5(string_agg(sealed, '' order by contact_point_id)) from contact.contact_points";
    let before: String = sqlx::query_scalar(sealed).fetch_one(&mut sql).await.unwrap();

    // Five hundred reads a second, past every cache, none of which may fail.
    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let (client, over, calls) = (client.clone(), over.clone(), calls.clone());
            let contact_point_id = fixture.contact_point_id.clone();
            tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                while !over.load(Relaxed) {
                    pace.tick().await;
                    let request =
                        GetContactPointRequest { contact_point_id: contact_point_id.clone(), ..Default::default() };
                    client.contact().get_contact_point(request).await.unwrap();
                    calls.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let turned = rotate_keys(&processes).wait_with_output().await.unwrap();
    let told = String::from_utf8(turned.stdout).unwrap();
    assert!(turned.status.success() && told.contains("data keys are left"), "{told}");
    assert!(told.ends_with("every data key is wrapped by the newest service key\n"), "{told}");
    over.store(true, Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(calls.load(Relaxed) > 100);
    assert_eq!(left(&mut sql, 1).await, 0);
    let after: String = sqlx::query_scalar(sealed).fetch_one(&mut sql).await.unwrap();
    assert_eq!(before, after, "what was sealed is as it was");

    // Killed in the middle, it goes on where it was.
    let rotate = rotate_keys(&processes);
    while left(&mut sql, 2).await >= keys_wanted() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let revive = processes.kill("contact");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rest = left(&mut sql, 2).await;
    assert!(rest > 0, "it was done before it was killed, so this shows nothing");
    revive().await;
    let turned = rotate.wait_with_output().await.unwrap();
    assert!(turned.status.success());
    assert_eq!(left(&mut sql, 2).await, 0);
    let after: String = sqlx::query_scalar(sealed).fetch_one(&mut sql).await.unwrap();
    assert_eq!(before, after);
    assert!(processes.stop().success());
}

#[tokio::test]
async fn a_key_ring_that_does_not_fit_is_refused_at_the_start() {
    let installation = Installation::start().await;
    let Installation { suite, plan, state } = installation;
    drop(suite);
    std::fs::write(plan.keys.key_ring_file(), KeyRing::generate().to_json()).unwrap();
    let refused = format!("{:#}", Suite::start(&plan).await.err().expect("another ring was taken"));
    assert!(refused.contains("the key ring does not fit the database"), "{refused}");
    assert!(refused.contains("key-encryption key 1 of the key ring does not open it"), "{refused}");
    drop(state);
}

#[tokio::test]
async fn what_was_moved_cut_or_altered_does_not_open_and_is_nobody_elses() {
    let installation = Installation::on_redis(None).await;
    let client = installation.client();
    let (ada, bob) = (Fixture::create(&client).await, Fixture::create(&client).await);
    let mut sql = installation.sql().await;
    let [a, b]: [Uuid; 2] = [&ada, &bob].map(|fixture| fixture.contact_point_id.parse().unwrap());
    let take = "select sealed from contact.contact_points where contact_point_id = $1";
    let own: Vec<u8> = sqlx::query_scalar(take).bind(a).fetch_one(&mut sql).await.unwrap();
    let others: Vec<u8> = sqlx::query_scalar(take).bind(b).fetch_one(&mut sql).await.unwrap();
    let mut altered = own.clone();
    *altered.last_mut().unwrap() ^= 1;
    // Under the other's key, which names itself, and under one's own, which did not seal it.
    let renamed = [&own[..17], &others[17..]].concat();
    for broken in [others, altered, own[..own.len() - 1].to_vec(), own[..3].to_vec(), Vec::new(), renamed] {
        let put = "update contact.contact_points set sealed = $2 where contact_point_id = $1";
        sqlx::query(put).bind(a).bind(&broken).execute(&mut sql).await.unwrap();
        let request = GetContactPointRequest { contact_point_id: a.to_string(), ..Default::default() };
        let status = client.contact().get_contact_point(request).await.err().expect("it opens");
        assert_eq!((reason(&status).as_str(), status.code()), ("SEALED_VALUE_UNREADABLE", tonic::Code::DataLoss));
        // The rest of the customer is there, and the section is named.
        let customer = get(&client, &ada.customer_id, Vec::new()).await.unwrap();
        assert_eq!(customer.unavailable[0].reason, "SEALED_VALUE_UNREADABLE");
        assert!(customer.contact.is_none() && customer.profile.is_some());
        let request = GetContactPointRequest { contact_point_id: b.to_string(), ..Default::default() };
        client.contact().get_contact_point(request).await.unwrap();
    }
}
