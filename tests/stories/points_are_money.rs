use client::request_id;
use futures_util::future::join_all;
use proto::loyalty::v1::*;
use tests::{Fixture, Installation, reason};

#[tokio::test]
async fn redeeming_more_than_the_balance_fails() {
    let installation = Installation::start().await;
    let client = installation.client();
    let member_id = Fixture::create(&client).await.member_id;
    let redeem = |points| RedeemPointsRequest {
        request_id: request_id(),
        member_id: member_id.clone(),
        points,
        cause: "test".into(),
    };
    let failure = client.loyalty().redeem_points(redeem(101)).await.err().unwrap();
    assert_eq!(reason(&failure), "INSUFFICIENT_POINTS");
    let balance = client.loyalty().redeem_points(redeem(100)).await.unwrap().into_inner().balance.unwrap();
    assert_eq!(balance.points, 0);
}

#[tokio::test]
async fn many_at_once_never_overdraw() {
    let installation = Installation::start().await;
    let client = installation.client();
    let member_id = Fixture::create(&client).await.member_id;
    let redemptions = join_all((0..16).map(|_| {
        let mut loyalty = client.loyalty();
        let member_id = member_id.clone();
        let request = RedeemPointsRequest { request_id: request_id(), member_id, points: 30, cause: "test".into() };
        async move { loyalty.redeem_points(request).await }
    }))
    .await;
    let redeemed = redemptions.iter().filter(|redeemed| redeemed.is_ok()).count();
    assert_eq!(redeemed, 3);
    for failure in redemptions.into_iter().filter_map(Result::err) {
        assert_eq!(reason(&failure), "INSUFFICIENT_POINTS");
    }
    let request = GetBalanceRequest { member_id, consistency: None };
    assert_eq!(client.loyalty().get_balance(request).await.unwrap().into_inner().balance.unwrap().points, 10);
    let unbalanced = "select count(*) from (select transaction_id from loyalty.entries
        group by transaction_id having sum(points) <> 0) as t";
    assert_eq!(installation.count(unbalanced).await, 0);
    let drift = "select count(*) from loyalty.members m where balance <>
        (select coalesce(sum(points), 0) from loyalty.entries where member_id = m.member_id and account = 1)";
    assert_eq!(installation.count(drift).await, 0);
}

#[tokio::test]
async fn a_member_with_many_lots_spends_those_that_expire_first() {
    let installation = Installation::start().await;
    let client = installation.client();
    let member_id = Fixture::create(&client).await.member_id;
    for _ in 0..20 {
        join_all((0..10).map(|_| {
            let (mut loyalty, member_id, cause) = (client.loyalty(), member_id.clone(), "test".to_owned());
            async move {
                let request = AccruePointsRequest { request_id: request_id(), member_id, points: 3, cause };
                loyalty.accrue_points(request).await.unwrap()
            }
        }))
        .await;
    }
    // The time of some is over, and of some it never is. What is left: a lot of 100 and 200 of 3.
    let ages = "update loyalty.lots set expires_at = now() + interval '1 day' * (rank - 40) from
        (select lot_id, row_number() over (order by md5(lot_id::text)) as rank from loyalty.lots where points = 3) as r
        where r.lot_id = lots.lot_id and rank <= 180";
    let mut sql = installation.sql().await;
    sqlx::query(ages).execute(&mut sql).await.unwrap();
    let live = "select (sum(remaining))::bigint from loyalty.lots where expires_at > now() or expires_at is null";
    let read = async || {
        let request = GetBalanceRequest { member_id: member_id.clone(), consistency: None };
        client.loyalty().get_balance(request).await.unwrap().into_inner().balance.unwrap()
    };
    let next = "select lot_id::text from loyalty.lots where remaining > 0 and
        (expires_at > now() or expires_at is null) order by expires_at, lot_id limit 10";
    let mut redeemed = 0;
    for points in [0, 1, 200, 179, 100] {
        if points > 0 {
            let (request_id, member_id, cause) = (request_id(), member_id.clone(), "test".to_owned());
            let request = RedeemPointsRequest { request_id, member_id, points, cause };
            let after = client.loyalty().redeem_points(request).await.unwrap().into_inner().balance.unwrap();
            redeemed += points;
            assert!(after.points == 580 - redeemed && after.next_lots == read().await.next_lots, "after {redeemed}");
        }
        let balance = read().await;
        assert_eq!(balance.points, installation.count(live).await, "after {redeemed}");
        let expected: Vec<String> = sqlx::query_scalar(next).fetch_all(&mut sql).await.unwrap();
        assert_eq!(balance.next_lots.iter().map(|lot| lot.lot_id.clone()).collect::<Vec<_>>(), expected);
    }
    // Forty lots went by their time, and that was written down once.
    let expired =
        "select (-sum(points))::bigint from loyalty.entries join loyalty.transactions t using (transaction_id)
        where t.kind = 3 and account = 1";
    assert_eq!(installation.count(expired).await, 120);
}

#[tokio::test]
async fn read_by_time_the_ledger_never_falls_below_zero() {
    let installation = Installation::start().await;
    let client = installation.client();
    let member_id = Fixture::create(&client).await.member_id;
    // Those who wait for each other began in another order than they come to write.
    join_all((0..64).map(|i| {
        let (mut loyalty, member_id, cause) = (client.loyalty(), member_id.clone(), "test".to_owned());
        async move {
            let request_id = request_id();
            if i % 2 == 0 {
                let request = AccruePointsRequest { request_id, member_id, points: 50, cause };
                loyalty.accrue_points(request).await.map(drop)
            } else {
                let request = RedeemPointsRequest { request_id, member_id, points: 90, cause };
                loyalty.redeem_points(request).await.map(drop)
            }
        }
    }))
    .await;
    let below = "select count(*) from (select sum(points) over (order by created_at, entry_id) as balance
        from loyalty.entries where account = 1) as b where balance < 0";
    assert_eq!(installation.count(below).await, 0);
    let backwards = "select count(*) from (select occurred_at, lag(occurred_at) over (partition by aggregateid
        order by customer_version) as before from loyalty.changes) as c where occurred_at < before";
    assert_eq!(installation.count(backwards).await, 0);
}

#[tokio::test]
async fn a_reversal_takes_back_what_was_given_once() {
    let installation = Installation::start().await;
    let client = installation.client();
    let fixture = Fixture::create(&client).await;
    let reverse = || ReverseTransactionRequest {
        request_id: request_id(),
        transaction_id: fixture.transaction_id.clone(),
        cause: "refund".into(),
    };
    let reversed = client.loyalty().reverse_transaction(reverse()).await.unwrap().into_inner();
    assert_eq!(reversed.balance.unwrap().points, 0);
    assert_eq!(reason(&client.loyalty().reverse_transaction(reverse()).await.err().unwrap()), "ALREADY_REVERSED");
    let again = ReverseTransactionRequest { transaction_id: reversed.transaction_id, ..reverse() };
    assert_eq!(reason(&client.loyalty().reverse_transaction(again).await.err().unwrap()), "NOT_REVERSIBLE");
}

#[tokio::test]
async fn an_entry_never_changes() {
    let installation = Installation::start().await;
    Fixture::create(&installation.client()).await;
    let mut sql = installation.sql().await;
    for statement in [
        "update loyalty.entries set points = 1",
        "delete from loyalty.entries",
        "update consent.records set decision = 1",
    ] {
        let failure = sqlx::query(statement).execute(&mut sql).await.err().unwrap();
        let constraint = failure.as_database_error().unwrap().constraint().unwrap().to_owned();
        assert!(constraint.ends_with("_are_final"), "{constraint}");
    }
}
