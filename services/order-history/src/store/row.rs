//! Orders as Postgres gives them, and what of them is sealed.

use chrono::{DateTime, Utc};
use prost::Message;
use proto::order_history::v1::*;
use serde::Deserialize;
use sqlx::types::Json;
use store::{Result, sql, timestamp};
use uuid::Uuid;
use vault::{Keys, Place, Unreadable};

/// An order without what hangs on it, as listings and sections show it.
#[derive(Deserialize)]
pub struct Head {
    pub order_id: Uuid,
    customer_id: Uuid,
    source: String,
    number: String,
    revision: i32,
    pub placed_at: DateTime<Utc>,
    channel: i32,
    store_id: String,
    state: i32,
    currency: String,
    discount_minor: i64,
    shipping_minor: i64,
    tax_minor: i64,
    total_minor: i64,
    refunded_minor: i64,
    source_revision: i64,
    delivery_method: Option<String>,
    delivery_carrier: String,
    delivery_state: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Head {
    /// A customer's orders placed before a point, newest first.
    pub async fn list(
        customer: Uuid,
        (placed_at, order_id): (DateTime<Utc>, Uuid),
        limit: i64,
        executor: impl sqlx::PgExecutor<'_>,
    ) -> Result<Vec<Self>> {
        let query = sqlx::query_as!(
            Self,
            r#"
            select order_id, customer_id, source, number, revision, placed_at, channel, store_id, state, currency,
                   discount_minor, shipping_minor, tax_minor, total_minor, refunded_minor, source_revision,
                   delivery_method, delivery_carrier, delivery_state, created_at, updated_at
            from order_history.orders
            where customer_id = $1 and (placed_at, order_id) < ($2, $3)
            order by placed_at desc, order_id desc
            limit $4
            "#,
            customer,
            placed_at,
            order_id,
            limit
        );
        sql("select order_history.orders", query.fetch_all(executor)).await
    }

    pub fn into_proto(self) -> Order {
        let delivery = self.delivery_method.map(|method| Delivery {
            method,
            carrier: self.delivery_carrier,
            state: self.delivery_state,
            ..Default::default()
        });
        Order {
            order_id: self.order_id.to_string(),
            customer_id: self.customer_id.to_string(),
            source: self.source,
            number: self.number,
            revision: self.revision,
            placed_time: Some(timestamp(self.placed_at)),
            channel: self.channel,
            store_id: self.store_id,
            state: self.state,
            currency_code: self.currency,
            discount_minor: self.discount_minor,
            shipping_minor: self.shipping_minor,
            tax_minor: self.tax_minor,
            total_minor: self.total_minor,
            refunded_minor: self.refunded_minor,
            source_revision: self.source_revision,
            delivery,
            create_time: Some(timestamp(self.created_at)),
            update_time: Some(timestamp(self.updated_at)),
            ..Default::default()
        }
    }
}

/// A whole order.
pub struct Row {
    head: Json<Head>,
    sealed: Option<Vec<u8>>,
    pub order_id: Uuid,
    lines: Json<Vec<LineJson>>,
    payments: Json<Vec<PaymentJson>>,
    returns: Json<Vec<ReturnJson>>,
}

#[derive(Deserialize)]
struct LineJson {
    line_number: i32,
    sku: String,
    title: String,
    category_path: Vec<String>,
    brand: String,
    quantity: i64,
    quantity_returned: i64,
    unit_price_minor: Option<i64>,
    discount_minor: i64,
    tax_minor: i64,
    amount_minor: i64,
}

#[derive(Deserialize)]
struct PaymentJson {
    method: String,
    amount_minor: i64,
    state: i32,
}

#[derive(Deserialize)]
struct ReturnJson {
    return_id: Uuid,
    refund_minor: i64,
    reason: String,
    returned_at: DateTime<Utc>,
    lines: Vec<ReturnLineJson>,
}

#[derive(Deserialize)]
struct ReturnLineJson {
    line_number: i32,
    quantity: i64,
}

impl Row {
    pub async fn select(ids: &[Uuid], executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Self>> {
        let query = sqlx::query_file_as!(Row, "queries/order.sql", ids);
        sql("select order_history.orders", query.fetch_all(executor)).await
    }

    pub fn customer_id(&self) -> Uuid {
        self.head.0.customer_id
    }

    pub fn sealed(&self) -> Option<&[u8]> {
        self.sealed.as_deref()
    }

    pub fn open(self, keys: &Keys) -> Result<Order> {
        let sealed = match &self.sealed {
            Some(sealed) => Order::decode(keys.open(place("orders", self.order_id), sealed)?.as_slice())?,
            None => Order::default(),
        };
        Ok(self.with(sealed))
    }

    /// The order without what is sealed.
    pub fn shut(self) -> Order {
        self.with(Order::default())
    }

    fn with(self, sealed: Order) -> Order {
        let mut order = self.head.0.into_proto();
        if let (Some(delivery), Some(sealed)) = (&mut order.delivery, sealed.delivery) {
            delivery.address = sealed.address;
            delivery.tracking_number = sealed.tracking_number;
        }
        let mut told_apart = sealed.payments.into_iter();
        order.payments = self.payments.0.into_iter().map(|row| row.into_proto(told_apart.next())).collect();
        order.lines = self.lines.0.into_iter().map(LineJson::into_proto).collect();
        order.returns = self.returns.0.into_iter().map(|row| row.into_proto(self.order_id)).collect();
        order
    }
}

impl LineJson {
    fn into_proto(self) -> OrderLine {
        OrderLine {
            line_number: self.line_number,
            sku: self.sku,
            title: self.title,
            category_path: self.category_path,
            brand: self.brand,
            quantity: self.quantity,
            quantity_returned: self.quantity_returned,
            unit_price_minor: self.unit_price_minor,
            discount_minor: self.discount_minor,
            tax_minor: self.tax_minor,
            amount_minor: self.amount_minor,
        }
    }
}

impl PaymentJson {
    fn into_proto(self, sealed: Option<Payment>) -> Payment {
        let sealed = sealed.unwrap_or_default();
        Payment { method: self.method, amount_minor: self.amount_minor, state: self.state, ..sealed }
    }
}

impl ReturnJson {
    fn into_proto(self, order_id: Uuid) -> Return {
        let lines = self.lines.into_iter();
        Return {
            return_id: self.return_id.to_string(),
            order_id: order_id.to_string(),
            refund_minor: self.refund_minor,
            reason: self.reason,
            returned_time: Some(timestamp(self.returned_at)),
            lines: lines.map(|l| ReturnLine { line_number: l.line_number, quantity: l.quantity }).collect(),
        }
    }
}

/// Seals an order with nothing but where it goes and what tells its payments apart.
pub fn seal(keys: &Keys, customer: Uuid, order_id: Uuid, order: &Order) -> Result<Option<Vec<u8>>, Unreadable> {
    let personal = Order {
        delivery: order.delivery.as_ref().map(|delivery| Delivery {
            address: delivery.address.clone(),
            tracking_number: delivery.tracking_number.clone(),
            ..Default::default()
        }),
        payments: order
            .payments
            .iter()
            .map(|p| Payment { scheme: p.scheme.clone(), last_four: p.last_four.clone(), ..Default::default() })
            .collect(),
        ..Default::default()
    };
    let empty = personal.delivery.is_none() && personal.payments.is_empty();
    (!empty).then(|| keys.seal(customer, place("orders", order_id), &personal.encode_to_vec())).transpose()
}

pub fn place(table: &'static str, order_id: Uuid) -> Place {
    Place { table, column: "sealed", row: order_id }
}
