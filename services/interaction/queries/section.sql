-- A customer's oldest open cases and latest interactions, with how many there are, in one statement.
select
    c.customer_id,
    c.version,
    (select coalesce(json_agg(to_json(o) order by o.case_id), '[]') from (
        select case_id, customer_id, kind, severity, owner_id, encode(sealed, 'base64') as sealed, opened_at, closed_at
        from interaction.cases where customer_id = c.customer_id and closed_at is null
        order by case_id limit 10
    ) o) as "cases!: Json<Vec<case::Row>>",
    (select coalesce(json_agg(to_json(i) order by i.occurred_at desc, i.interaction_id desc), '[]') from (
        select interaction_id, customer_id, occurred_at, received_at, channel, direction, topic, agent_id,
               duration_ms, outcome, satisfaction, purpose_id
        from interaction.interactions where customer_id = c.customer_id
        order by occurred_at desc, interaction_id desc limit 10
    ) i) as "interactions!: Json<Vec<Head>>",
    (select count(*) from interaction.cases where customer_id = c.customer_id and closed_at is null) as "open_cases!",
    (select count(*) from interaction.interactions where customer_id = c.customer_id) as "total!"
from interaction.customers c
where c.customer_id = any ($1)
