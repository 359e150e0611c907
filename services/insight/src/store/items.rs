//! What was sold, and who bought it.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use proto::order_history::v1::{Order, OrderLine};
use store::{Result, Tx, sql, uuid};
use uuid::Uuid;

use super::{Store, row::day_number};
use crate::{catalogue::Item, reason};

/// Category paths travel to SQL as one text; names cannot hold a control character.
pub const SEPARATOR: &str = "\u{1f}";

/// Takes over the lines of orders that were put.
pub async fn put(tx: &mut Tx, orders: &[&Order]) -> Result<()> {
    let ids = orders.iter().map(|order| uuid(&order.order_id)).collect::<Result<Vec<Uuid>>>()?;
    let query = sqlx::query!("delete from insight.purchase_lines where order_id = any ($1)", &ids);
    sql("delete insight.purchase_lines", query.execute(tx.sql())).await?;
    let items = describe(tx, orders).await?;
    let lines = || ids.iter().zip(orders).flat_map(|(id, order)| order.lines.iter().map(move |line| (*id, line)));
    let kept = || lines().filter(|(_, line)| line.quantity > line.quantity_returned);
    let (order_ids, numbers): (Vec<Uuid>, Vec<i32>) = kept().map(|(id, line)| (id, line.line_number)).unzip();
    let item = |line: &OrderLine| items.get(&line.sku).copied().ok_or(reason::INTERNAL_ERROR);
    let item_ids = kept().map(|(_, line)| item(line)).collect::<Result<Vec<i32>, _>>()?;
    let quantities: Vec<i64> = kept().map(|(_, line)| line.quantity - line.quantity_returned).collect();
    // Of what came back the same part of the amount is gone, to the nearest minor unit.
    let amount = |line: &OrderLine, quantity: i64| (line.amount_minor * quantity + line.quantity / 2) / line.quantity;
    let amounts: Vec<i64> = kept().zip(&quantities).map(|((_, line), quantity)| amount(line, *quantity)).collect();
    let query = sqlx::query!(
        r#"
        insert into insight.purchase_lines (order_id, line_number, item_id, quantity, amount_minor)
        select * from unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[])
        "#,
        &order_ids,
        &numbers,
        &item_ids,
        &quantities,
        &amounts
    );
    sql("insert insight.purchase_lines", query.execute(tx.sql())).await?;
    Ok(())
}

/// Describes items as these orders do, the newest last, and answers their numbers.
async fn describe(tx: &mut Tx, orders: &[&Order]) -> Result<HashMap<String, i32>> {
    let mut newest = orders.to_vec();
    newest.sort_by_key(|order| order.placed_time.map(|time| (time.seconds, time.nanos)));
    let mut items = BTreeMap::new();
    for order in newest {
        items.extend(order.lines.iter().map(|line| (line.sku.as_str(), (line, order.currency_code.as_str()))));
    }
    let skus: Vec<String> = items.keys().map(|sku| (*sku).to_owned()).collect();
    let titles: Vec<String> = items.values().map(|(line, _)| line.title.clone()).collect();
    let paths: Vec<String> = items.values().map(|(line, _)| line.category_path.join(SEPARATOR)).collect();
    let brands: Vec<String> = items.values().map(|(line, _)| line.brand.clone()).collect();
    let price = |line: &OrderLine| line.unit_price_minor.unwrap_or(line.amount_minor / line.quantity.max(1));
    let prices: Vec<i64> = items.values().map(|(line, _)| price(line)).collect();
    let currencies: Vec<String> = items.values().map(|(_, currency)| (*currency).to_owned()).collect();
    let query = sqlx::query!(
        r#"
        insert into insight.items as i (sku, title, category_path, brand, price_minor, currency)
        select sku, title, string_to_array(category_path, $7), brand, price_minor, currency
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
            as new (sku, title, category_path, brand, price_minor, currency)
        order by sku
        on conflict (sku) do update set
            title = excluded.title, category_path = excluded.category_path, brand = excluded.brand,
            price_minor = excluded.price_minor, currency = excluded.currency
        where (i.title, i.category_path, i.brand, i.price_minor, i.currency) is distinct from
            (excluded.title, excluded.category_path, excluded.brand, excluded.price_minor, excluded.currency)
        "#,
        &skus,
        &titles,
        &paths,
        &brands,
        &prices,
        &currencies,
        SEPARATOR
    );
    sql("insert insight.items", query.execute(tx.sql())).await?;
    let query = sqlx::query!("select sku, item_id from insight.items where sku = any ($1)", &skus);
    let rows = sql("select insight.items", query.fetch_all(tx.sql())).await?;
    Ok(rows.into_iter().map(|row| (row.sku, row.item_id)).collect())
}

impl Store {
    /// Everything that was sold, by its id.
    pub async fn items(&self) -> Result<BTreeMap<i32, Item>> {
        let query = sqlx::query!("select * from insight.items order by item_id");
        let rows = sql("select insight.items", query.fetch_all(&self.db)).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let item = Item {
                    sku: row.sku,
                    title: row.title,
                    category_path: row.category_path,
                    brand: row.brand,
                    price_minor: row.price_minor,
                    currency: row.currency,
                };
                (row.item_id, item)
            })
            .collect())
    }

    /// All baskets, customer by customer: a number for the customer, the day and the items.
    pub async fn baskets(&self) -> Result<Vec<(u32, i32, Vec<i32>)>> {
        let (mut baskets, mut after, mut number) = (Vec::new(), Uuid::nil(), 0);
        loop {
            let customers = self.customers(after).await?;
            let Some(last) = customers.last() else { return Ok(baskets) };
            after = *last;
            let query = sqlx::query!(
                r#"
                select p.customer_id, p.day as "day!",
                       array(select distinct item_id from insight.purchase_lines l where l.order_id = p.order_id) as "items!"
                from insight.purchases p where p.customer_id = any ($1) order by p.customer_id
                "#,
                &customers
            );
            let rows = sql("select insight.purchases", query.fetch_all(&self.db)).await?;
            let mut before = Uuid::nil();
            for row in rows {
                if row.customer_id != before {
                    (before, number) = (row.customer_id, number + 1);
                }
                baskets.push((number, day_number(row.day) as i32, row.items));
            }
        }
    }

    /// What a customer has, and on which days it was bought.
    pub async fn bought(&self, customer: Uuid) -> Result<BTreeMap<i32, Vec<NaiveDate>>> {
        let query = sqlx::query!(
            r#"
            select l.item_id, array_agg(distinct p.day order by p.day) as "days!: Vec<NaiveDate>"
            from insight.purchases p join insight.purchase_lines l using (order_id)
            where p.customer_id = $1 group by l.item_id
            "#,
            customer
        );
        let rows = sql("select insight.purchase_lines", query.fetch_all(&self.db)).await?;
        Ok(rows.into_iter().map(|row| (row.item_id, row.days)).collect())
    }
}
