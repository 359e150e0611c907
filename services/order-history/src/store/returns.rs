//! Writing what came back.

use access::Call;
use error::Failure;
use proto::order_history::v1::*;
use serde_json::json;
use store::{Change, Result, Tx, Written, sql, time, uuid};
use uuid::Uuid;

use super::Store;
use crate::reason;

impl Store {
    pub async fn return_record(
        &self,
        call: &Call,
        request: RecordReturnRequest,
    ) -> Result<Written<RecordReturnResponse>> {
        let key = self.db.key("RecordReturn", &request.request_id, &request)?;
        let back = request.r#return.unwrap_or_default();
        let return_id = Uuid::now_v7();
        self.db
            .write(call, key, move |tx| {
                let back = Return { return_id: return_id.to_string(), ..back.clone() };
                Box::pin(async move {
                    let (customer_id, version) = return_insert(tx, return_id, &back).await?;
                    let payload = json!({
                        "order_id": back.order_id, "return_id": return_id, "refund_minor": back.refund_minor,
                        "reason": back.reason,
                    });
                    let change = Change { customer_id, version, resource: "order", kind: "order.returned", payload };
                    tx.changes(vec![change]).await?;
                    let consistency_token = tx.token(customer_id, version);
                    Ok(RecordReturnResponse { r#return: Some(back), consistency_token })
                })
            })
            .await
    }
}

/// Writes a return down, line by line, and answers whose it is.
async fn return_insert(tx: &mut Tx, return_id: Uuid, back: &Return) -> Result<(Uuid, i64)> {
    let order_id = uuid(&back.order_id)?;
    let query = sqlx::query_scalar!("select customer_id from order_history.orders where order_id = $1", order_id);
    let customer = sql("select order_history.orders", query.fetch_optional(tx.sql())).await?;
    let customer = customer.ok_or(reason::ORDER_NOT_FOUND)?;
    let version = tx.raise(customer).await?;

    let query = sqlx::query!(
        r#"
        update order_history.orders set refunded_minor = refunded_minor + $2, updated_at = clock_timestamp()
        where order_id = $1 returning currency, state
        "#,
        order_id,
        back.refund_minor
    );
    let order = sql("update order_history.orders", query.fetch_one(tx.sql())).await?;
    let numbers: Vec<i32> = back.lines.iter().map(|line| line.line_number).collect();
    let quantities: Vec<i64> = back.lines.iter().map(|line| line.quantity).collect();
    let query = sqlx::query!(
        r#"
        update order_history.order_lines as line set quantity_returned = quantity_returned + back.quantity
        from unnest($2::integer[], $3::bigint[]) as back (line_number, quantity)
        where line.order_id = $1 and line.line_number = back.line_number
        "#,
        order_id,
        &numbers,
        &quantities
    );
    let updated = sql("update order_history.order_lines", query.execute(tx.sql())).await?;
    if updated.rows_affected() < numbers.len() as u64 {
        return Err(reason::ORDER_LINE_NOT_FOUND.into());
    }
    let returned_at =
        time(back.returned_time).ok_or_else(|| Failure::invalid("return.returned_time", "is not a time"))?;
    let query = sqlx::query!(
        r#"
        insert into order_history.returns (return_id, order_id, refund_minor, reason, returned_at)
        values ($1, $2, $3, $4, $5)
        "#,
        return_id,
        order_id,
        back.refund_minor,
        back.reason,
        returned_at
    );
    sql("insert order_history.returns", query.execute(tx.sql())).await?;
    let query = sqlx::query!(
        r#"
        insert into order_history.return_lines (return_id, order_id, line_number, quantity)
        select $1, $2, line_number, quantity
        from unnest($3::integer[], $4::bigint[]) as back (line_number, quantity)
        "#,
        return_id,
        order_id,
        &numbers,
        &quantities
    );
    sql("insert order_history.return_lines", query.execute(tx.sql())).await?;
    if order.state != OrderState::Cancelled as i32 {
        let query = sqlx::query!(
            r#"
            update order_history.order_summaries set refunded_minor = refunded_minor + $3
            where customer_id = $1 and currency = $2
            "#,
            customer,
            order.currency,
            back.refund_minor
        );
        sql("update order_history.order_summaries", query.execute(tx.sql())).await?;
    }
    Ok((customer, version))
}
