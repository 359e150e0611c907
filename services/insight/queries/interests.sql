-- Customers by how much of what is like something they bought, and lately.
with days as (
    select distinct p.customer_id, l.item_id, p.day, alike.likeness
    from unnest($1::integer[], $2::float8[]) as alike (item_id, likeness)
    join insight.purchase_lines l using (item_id)
    join insight.purchases p using (order_id)
),
newest as (
    select max(day) as day from days
),
of_item as (
    select
        customer_id,
        item_id,
        count(*) as days,
        max(days.day) as last_day,
        sum(likeness * power(0.5, (newest.day - days.day) / $3::float8)) as score
    from days cross join newest
    group by customer_id, item_id
)
select
    customer_id as "customer_id!",
    sum(score) as "score!",
    (array_agg(item_id order by score desc, item_id))[1] as "item_id!",
    (array_agg(days order by score desc, item_id))[1] as "days!",
    (array_agg(last_day order by score desc, item_id))[1] as "last_day!"
from of_item
group by customer_id
having not bool_or(item_id = any ($4))
order by sum(score) desc, customer_id
limit $5
