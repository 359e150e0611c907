-- What a snapshot ($1) has not seen and the present one has. The two halves read the index on
-- (xid, seq) and so new rows alone, even while a transaction is open somewhere for hours.
with now as materialized (select pg_current_snapshot() as snapshot),
unseen as (
    select seq, xid, id, aggregatetype, aggregateid, type, payload, customer_version, occurred_at, traceparent
    from changes where xid >= (select pg_snapshot_xmax($1::text::pg_snapshot))
    union all
    select seq, xid, id, aggregatetype, aggregateid, type, payload, customer_version, occurred_at, traceparent
    from changes where xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
)
select
    now.snapshot::text as "until!", feed.purged_xid::text::bigint as "purged!",
    c.seq as "seq?", c.xid::text::bigint as "xid?", c.id as "id?", c.aggregatetype as "aggregatetype?",
    c.aggregateid as "aggregateid?", c.type as "kind?", c.payload::text as "payload?",
    c.customer_version as "customer_version?", c.occurred_at as "occurred_at?", c.traceparent as "traceparent?"
from now cross join feed
left join lateral (
    select seq, xid, id, aggregatetype, aggregateid, type, payload, customer_version, occurred_at, traceparent
    from unseen where pg_visible_in_snapshot(xid, now.snapshot) order by seq limit $2
) as c on true
order by c.seq
