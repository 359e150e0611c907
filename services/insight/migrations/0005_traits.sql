-- What customers are counted by: of each dimension one value, as the other services say it now; empty when it is not known.
create table insight.traits (
    customer_id uuid not null,
    -- As in the contract: `age_band`.
    dimension text not null,
    value text not null,
    constraint traits_pkey primary key (customer_id, dimension),
    constraint traits_customer_id_fkey foreign key (customer_id) references insight.customers (customer_id)
);

-- Of whom the base may have been counted otherwise, a row for each time: a count deletes those that it has seen, so what is written
-- meanwhile must be a row of its own.
create table insight.base_changes (
    seq bigint generated always as identity,
    customer_id uuid not null,
    constraint base_changes_pkey primary key (seq)
);

-- The base as it is told: who is counted, and by which values. It follows `traits` only in steps of enough customers at once. Who
-- was erased stays under ids that are nobody's until the step that leaves them out.
create table insight.counted_customers (
    customer_id uuid not null,
    constraint counted_customers_pkey primary key (customer_id)
);
create table insight.counted_traits (
    customer_id uuid not null,
    dimension text not null,
    value text not null,
    constraint counted_traits_pkey primary key (customer_id, dimension)
);

-- What that comes to.
create table insight.bases (
    singleton boolean not null default true,
    counted_at timestamptz not null default clock_timestamp(),
    customer_count bigint not null,
    constraint bases_pkey primary key (singleton),
    constraint bases_singleton_check check (singleton)
);
create table insight.base_counts (
    dimension text not null,
    value text not null,
    customer_count bigint not null,
    constraint base_counts_pkey primary key (dimension, value),
    constraint base_counts_customer_count_check check (customer_count > 0)
);

-- What is counted anew when somebody buys is not counted anew when somebody has another browser.
create index changes_value_idx on insight.changes (seq) where type = 'value.counted';

-- What was followed before said less: everyone's present state is read anew.
delete from insight.cursors;

comment on column insight.traits.customer_id is 'IDENTIFIER';
comment on column insight.traits.dimension is 'OPERATIONAL';
comment on column insight.traits.value is 'DEMOGRAPHIC, PREFERENCE, INTERACTION, PURCHASE, LOYALTY, CONSENT';
comment on column insight.base_changes.seq is 'OPERATIONAL';
comment on column insight.base_changes.customer_id is 'IDENTIFIER';
comment on column insight.counted_customers.customer_id is 'IDENTIFIER';
comment on column insight.counted_traits.customer_id is 'IDENTIFIER';
comment on column insight.counted_traits.dimension is 'OPERATIONAL';
comment on column insight.counted_traits.value is 'DEMOGRAPHIC, PREFERENCE, INTERACTION, PURCHASE, LOYALTY, CONSENT';
comment on column insight.bases.singleton is 'OPERATIONAL';
comment on column insight.bases.counted_at is 'OPERATIONAL';
comment on column insight.bases.customer_count is 'OPERATIONAL';
comment on column insight.base_counts.dimension is 'OPERATIONAL';
comment on column insight.base_counts.value is 'DEMOGRAPHIC, PREFERENCE, INTERACTION, PURCHASE, LOYALTY, CONSENT';
comment on column insight.base_counts.customer_count is 'OPERATIONAL';
