-- A whole order in one statement, so that its parts are of one revision.
select
    o.order_id,
    o.sealed,
    to_jsonb(o) - 'sealed' - 'content' as "head!: Json<Head>",
    (select coalesce(jsonb_agg(to_jsonb(l) order by l.line_number), '[]')
     from order_history.order_lines l where l.order_id = o.order_id) as "lines!: Json<Vec<LineJson>>",
    (select coalesce(jsonb_agg(to_jsonb(p) order by p.position), '[]')
     from order_history.payments p where p.order_id = o.order_id) as "payments!: Json<Vec<PaymentJson>>",
    (select coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object('lines', (
         select coalesce(jsonb_agg(to_jsonb(rl) order by rl.line_number), '[]')
         from order_history.return_lines rl where rl.return_id = r.return_id
     )) order by r.returned_at, r.return_id), '[]')
     from order_history.returns r where r.order_id = o.order_id) as "returns!: Json<Vec<ReturnJson>>"
from order_history.orders o
where o.order_id = any ($1)
