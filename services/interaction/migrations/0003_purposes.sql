-- What for a customer was addressed, and how often.
alter table interaction.interactions add column purpose_id text not null default '';
-- A direction of 2 is outbound.
create index interactions_purpose_idx on interaction.interactions (customer_id, purpose_id, occurred_at)
    where purpose_id <> '' and direction = 2;
comment on column interaction.interactions.purpose_id is 'Interaction.purpose_id';
