-- The newest purchases of customers, and the customers' time zones and regions; what is in them only when asked for.
select
    c.customer_id as "customer_id!",
    coalesce(t.value, '') as "time_zone!",
    coalesce(r.value, '') as "region!",
    p.placed_at,
    p.channel,
    p.store_id,
    p.payment_method,
    p.currency,
    p.net_minor,
    p.discount_minor,
    coalesce(l.quantity, 0)::bigint as "quantity!",
    coalesce(l.categories, '{}') as "categories!",
    coalesce(l.brands, '{}') as "brands!"
from unnest($1::uuid[]) as c (customer_id)
left join insight.traits t on t.customer_id = c.customer_id and t.dimension = 'time_zone'
left join insight.traits r on r.customer_id = c.customer_id and r.dimension = 'region'
cross join lateral (
    select * from insight.purchases where customer_id = c.customer_id order by placed_at desc, order_id limit $2
) p
left join lateral (
    select
        sum(quantity) as quantity,
        array_agg(distinct array_to_string(i.category_path, $4)) filter (where i.category_path <> '{}') as categories,
        array_agg(distinct i.brand) filter (where i.brand <> '') as brands
    from insight.purchase_lines join insight.items i using (item_id)
    -- When it is not asked for, nothing is looked at.
    where $3 and order_id = p.order_id
) l on true
