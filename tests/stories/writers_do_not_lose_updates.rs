use client::request_id;
use futures_util::future::join_all;
use proto::{interaction::v1::*, order_history::v1::*, profile::v1::*};
use tests::{Fixture, Installation, order, reason};

#[tokio::test]
async fn sixteen_writers_with_overlapping_batches_lose_nothing() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut customers = Vec::new();
    for _ in 0..8 {
        customers.push(Fixture::create(&client).await.customer_id);
    }
    let before = installation.count("select count(*) from order_history.orders").await;
    let interactions = installation.count("select count(*) from interaction.interactions").await;
    let writers = (0..16).map(|writer| {
        let (client, customers) = (client.clone(), customers.clone());
        tokio::spawn(async move {
            for round in 0..5 {
                // Each writer meets the customers in an order of its own.
                let mut mine: Vec<_> = customers.iter().enumerate().collect();
                mine.rotate_left((writer * 3 + round) % customers.len());
                if writer % 2 == 1 {
                    mine.reverse();
                }
                let orders = mine.iter().map(|(i, id)| order(id, &format!("{writer}-{round}-{i}")));
                let request = BatchRecordOrdersRequest { orders: orders.collect() };
                let reply = client.order_history().batch_record_orders(request).await.unwrap().into_inner();
                assert!(reply.results.iter().all(|r| r.outcome() == RecordOutcome::Created && r.failure.is_empty()));
                let requests = mine.iter().map(|(_, id)| RecordInteractionRequest {
                    request_id: request_id(),
                    interaction: Some(Interaction {
                        customer_id: (*id).clone(),
                        occurred_time: Some(prost_types::Timestamp::default()),
                        ..Default::default()
                    }),
                });
                let request = BatchRecordInteractionsRequest { requests: requests.collect() };
                let reply = client.interaction().batch_record_interactions(request).await.unwrap().into_inner();
                assert!(reply.results.iter().all(|result| result.failure.is_empty()));
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    assert_eq!(installation.count("select count(*) from order_history.orders").await, before + 16 * 5 * 8);
    let recorded = installation.count("select count(*) from interaction.interactions").await;
    assert_eq!(recorded, interactions + 16 * 5 * 8);
    // Every version is one change: none is missing, none is double.
    let gaps = "select count(*) from order_history.customers c
        where version <> (select count(*) from order_history.changes where aggregateid = c.customer_id)";
    assert_eq!(installation.count(gaps).await, 0);
}

#[tokio::test]
async fn of_two_updates_of_one_state_one_wins() {
    let installation = Installation::start().await;
    let client = installation.client();
    let customer_id = Fixture::create(&client).await.customer_id;
    let request = GetProfileRequest { customer_id: customer_id.clone(), ..Default::default() };
    let profile = client.profile().get_profile(request).await.unwrap().into_inner().profile.unwrap();
    let updates = join_all((0..16).map(|i| {
        let mut profiles = client.profile();
        let request = UpdateProfileRequest {
            request_id: request_id(),
            customer_id: customer_id.clone(),
            profile: Some(Profile { region: format!("PT-{i:02}"), ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["region".into()] }),
            etag: profile.etag.clone(),
            ..Default::default()
        };
        async move { profiles.update_profile(request).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = updates.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    for failure in lost {
        let failure = failure.err().unwrap();
        assert_eq!((failure.code(), reason(&failure).as_str()), (tonic::Code::Aborted, "ETAG_MISMATCH"));
    }
}
