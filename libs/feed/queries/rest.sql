-- What the second snapshot ($2) adds to the first ($1), behind a `seq` ($3): the rest of a batch of
-- more than a page, in the order of the primary key.
select
    $2::text as "until!", feed.purged_xid::text::bigint as "purged!",
    c.seq as "seq?", c.xid::text::bigint as "xid?", c.id as "id?", c.aggregatetype as "aggregatetype?",
    c.aggregateid as "aggregateid?", c.type as "kind?", c.payload::text as "payload?",
    c.customer_version as "customer_version?", c.occurred_at as "occurred_at?", c.traceparent as "traceparent?"
from feed
left join lateral (
    select seq, xid, id, aggregatetype, aggregateid, type, payload, customer_version, occurred_at, traceparent
    from changes
    where seq > $3
      and (xid >= (select pg_snapshot_xmax($1::text::pg_snapshot))
           or xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot))))
      and pg_visible_in_snapshot(xid, (select $2::text::pg_snapshot))
    order by seq limit $4
) as c on true
order by c.seq
