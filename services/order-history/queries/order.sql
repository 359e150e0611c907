-- A whole order in one statement, so that its parts are of one revision. Each part is in the order of its key already, and what is
-- not told is not turned into JSON.
select
    o.order_id,
    o.sealed,
    (select to_json(h) from (
        select o.order_id, o.customer_id, o.source, o.number, o.revision, o.placed_at, o.channel, o.store_id, o.state,
               o.currency, o.discount_minor, o.shipping_minor, o.tax_minor, o.total_minor, o.refunded_minor,
               o.source_revision, o.delivery_method, o.delivery_carrier, o.delivery_state, o.created_at, o.updated_at
    ) h) as "head!: Json<Head>",
    (select coalesce(json_agg(l), '[]') from (
        select line_number, sku, title, category_path, brand, quantity, quantity_returned, unit_price_minor,
               discount_minor, tax_minor, amount_minor
        from order_history.order_lines where order_id = o.order_id order by line_number
    ) l) as "lines!: Json<Vec<LineJson>>",
    (select coalesce(json_agg(p), '[]') from (
        select method, amount_minor, state from order_history.payments where order_id = o.order_id order by position
    ) p) as "payments!: Json<Vec<PaymentJson>>",
    (select coalesce(json_agg(r), '[]') from (
        select return_id, refund_minor, reason, returned_at, (
            select coalesce(json_agg(l), '[]') from (
                select line_number, quantity from order_history.return_lines
                where return_id = r.return_id order by line_number
            ) l) as lines
        from order_history.returns r where order_id = o.order_id order by returned_at, return_id
    ) r) as "returns!: Json<Vec<ReturnJson>>"
from order_history.orders o
where o.order_id = any ($1)
