-- What the purchases of customers come to, by customer and currency, counted from purchases alone.
with days as (
    select customer_id, currency, day, sum(net_minor)::bigint as net_minor
    from insight.purchases
    where customer_id = any ($1) and ($2::date is null or placed_at < ($2 + 1)::timestamp at time zone 'UTC')
    group by customer_id, currency, day
)
select
    customer_id as "customer_id!",
    currency as "currency!",
    min(day) as "first_day!",
    max(day) as "last_day!",
    count(*) as "days!",
    sum(net_minor)::bigint as "net_minor!",
    (array_agg(net_minor order by day))[1] as "first_day_minor!",
    1 as "recency_score!",
    1 as "frequency_score!",
    1 as "monetary_score!"
from days
group by customer_id, currency
order by customer_id, currency
