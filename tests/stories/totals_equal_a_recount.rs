use client::request_id;
use proptest::{prelude::*, test_runner::TestRunner};
use proto::order_history::v1::*;
use tests::{Fixture, Installation, order};

/// Two customers, a few numbers, any states: revisions, cancellations and returns among them.
#[derive(Clone, Debug)]
enum Step {
    Order { customer: usize, number: u8, total: i64, day: i64, cancelled: bool, currency: bool },
    Return { customer: usize, number: u8, refund: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2usize, 0..4u8, 0..5000i64, 0..50i64, any::<bool>(), any::<bool>()).prop_map(
            |(customer, number, total, day, cancelled, currency)| Step::Order {
                customer, number, total, day, cancelled, currency
            }
        ),
        1 => (0..2usize, 0..4u8, 0..3000i64).prop_map(|(customer, number, refund)| Step::Return {
            customer, number, refund
        }),
    ]
}

const DRIFT: &str = "select count(*) from (
    (select customer_id, currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at
     from order_history.order_summaries
     except
     select customer_id, currency, count(*), sum(total_minor), sum(refunded_minor), min(placed_at), max(placed_at)
     from order_history.orders where state <> 3 group by customer_id, currency)
    union all
    (select customer_id, currency, count(*), sum(total_minor), sum(refunded_minor), min(placed_at), max(placed_at)
     from order_history.orders where state <> 3 group by customer_id, currency
     except
     select customer_id, currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at
     from order_history.order_summaries)) as drift";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_kept_with_each_write_equal_a_recount() {
    let installation = Installation::start().await;
    let client = installation.client();
    let mut customers = Vec::new();
    for _ in 0..2 {
        customers.push(Fixture::create(&client).await.customer_id);
    }
    let runtime = tokio::runtime::Handle::current();
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() });
    let steps = proptest::collection::vec(step(), 1..15);
    tokio::task::block_in_place(|| {
        runner
            .run(&steps, |steps| {
                runtime.block_on(async {
                    for step in &steps {
                        apply(&client, &customers, step).await;
                    }
                    assert_eq!(installation.count(DRIFT).await, 0, "{steps:?}");
                });
                Ok(())
            })
            .unwrap();
    });
}

async fn apply(client: &client::Client, customers: &[String], step: &Step) {
    match step {
        Step::Order { customer, number, total, day, cancelled, currency } => {
            let mut order = order(&customers[*customer], &format!("n{customer}-{number}"));
            order.lines[0].unit_price_minor = None;
            order.lines[0].amount_minor = *total;
            order.total_minor = *total;
            order.placed_time = Some(prost_types::Timestamp { seconds: day * 86_400, nanos: 0 });
            order.currency_code = if *currency { "EUR" } else { "JPY" }.into();
            order.state = if *cancelled { OrderState::Cancelled } else { OrderState::Placed }.into();
            let recorded = client.order_history().record_order(RecordOrderRequest { order: Some(order) }).await;
            if let Err(failure) = recorded {
                assert_eq!(tests::reason(&failure), "RETURNED_LINE_CHANGED");
            }
        }
        Step::Return { customer, number, refund } => {
            let by = proto::r#type::v1::OrderNumber { source: "shop".into(), number: format!("n{customer}-{number}") };
            let request = GetOrderRequest { order_number: Some(by), ..Default::default() };
            let Ok(found) = client.order_history().get_order(request).await else { return };
            let back = Return {
                order_id: found.into_inner().order.unwrap().order_id,
                refund_minor: *refund,
                lines: vec![ReturnLine { line_number: 1, quantity: 1 }],
                returned_time: Some(prost_types::Timestamp::default()),
                ..Default::default()
            };
            let request = RecordReturnRequest { request_id: request_id(), r#return: Some(back) };
            if let Err(failure) = client.order_history().record_return(request).await {
                assert_eq!(tests::reason(&failure), "RETURN_EXCEEDS_ORDER");
            }
        }
    }
}

#[tokio::test]
async fn a_revised_order_keeps_what_it_was_and_what_came_back() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let back = Return {
        order_id: fixture.order_id.clone(),
        refund_minor: 1000,
        lines: vec![ReturnLine { line_number: 1, quantity: 1 }],
        returned_time: Some(prost_types::Timestamp::default()),
        ..Default::default()
    };
    let request = RecordReturnRequest { request_id: request_id(), r#return: Some(back) };
    client.order_history().record_return(request).await.unwrap();
    let mut revised = order(&fixture.customer_id, &fixture.tag);
    revised.state = OrderState::Completed.into();
    revised.delivery = Some(Delivery {
        method: "parcel".into(),
        address: Some(DeliveryAddress { locality: "Lisboa".into(), ..Default::default() }),
        ..Default::default()
    });
    revised.payments = vec![Payment { method: "card".into(), last_four: "4242".into(), ..Default::default() }];
    let recorded = client.order_history().record_order(RecordOrderRequest { order: Some(revised) }).await.unwrap();
    assert_eq!(recorded.into_inner().outcome(), RecordOutcome::Revised);
    let request = GetOrderRequest { order_id: fixture.order_id, ..Default::default() };
    let order = client.order_history().get_order(request).await.unwrap().into_inner().order.unwrap();
    assert_eq!((order.revision, order.refunded_minor, order.lines[0].quantity_returned), (2, 1000, 1));
    assert_eq!(order.returns.len(), 1);
    assert_eq!(order.payments[0].last_four, "4242");
    assert_eq!(order.delivery.unwrap().address.unwrap().locality, "Lisboa");
    assert_eq!(installation.count("select count(*) from order_history.order_revisions").await, 1);
}
