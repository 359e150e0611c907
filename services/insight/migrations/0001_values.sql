-- What was bought, as far as conclusions are drawn from it: orders that were not cancelled.
create table insight.purchases (
    order_id uuid not null,
    customer_id uuid not null,
    placed_at timestamptz not null,
    -- Several purchases on one day of UTC are one.
    day date generated always as ((placed_at at time zone 'UTC')::date) stored,
    currency text not null,
    -- Less what was given back.
    net_minor bigint not null,
    constraint purchases_pkey primary key (order_id),
    constraint purchases_customer_id_fkey foreign key (customer_id) references insight.customers (customer_id),
    constraint purchases_net_check check (net_minor >= 0)
);
create index purchases_customer_id_idx on insight.purchases (customer_id, placed_at);

-- What a customer's purchases in one currency come to, and the scores. It equals a recount over purchases at any time;
-- the scores are those by the edges of when they were last counted.
create table insight.customer_values (
    customer_id uuid not null,
    currency text not null,
    first_day date not null,
    last_day date not null,
    -- On how many days something was bought.
    days bigint not null,
    net_minor bigint not null,
    -- What was spent on the first day.
    first_day_minor bigint not null,
    recency_score integer not null,
    frequency_score integer not null,
    monetary_score integer not null,
    constraint customer_values_pkey primary key (customer_id, currency),
    constraint customer_values_customer_id_fkey foreign key (customer_id) references insight.customers (customer_id),
    constraint customer_values_days_check check (days > 0 and last_day - first_day + 1 >= days),
    constraint customer_values_scores_check check (
        recency_score between 1 and 5 and frequency_score between 1 and 5 and monetary_score between 1 and 5)
);

-- What divides the customers who bought in a currency into fifths.
create table insight.edges (
    currency text not null,
    -- As days since 1970-01-01.
    recency bigint[] not null,
    frequency bigint[] not null,
    monetary bigint[] not null,
    customer_count bigint not null,
    counted_at timestamptz not null default clock_timestamp(),
    constraint edges_pkey primary key (currency),
    constraint edges_four_check check (cardinality(recency) = 4 and cardinality(frequency) = 4 and cardinality(monetary) = 4)
);

-- The last recount of the whole base: up to which change of this schema.
create table insight.recounts (
    singleton boolean not null default true,
    seq bigint not null,
    constraint recounts_pkey primary key (singleton),
    constraint recounts_singleton_check check (singleton)
);
insert into insight.recounts (seq) values (0);

comment on column insight.purchases.order_id is 'IDENTIFIER';
comment on column insight.purchases.customer_id is 'IDENTIFIER';
comment on column insight.purchases.placed_at is 'PURCHASE';
comment on column insight.purchases.day is 'PURCHASE';
comment on column insight.purchases.currency is 'PURCHASE';
comment on column insight.purchases.net_minor is 'PURCHASE';
comment on column insight.customer_values.customer_id is 'IDENTIFIER';
comment on column insight.customer_values.currency is 'ValueTier.currency_code';
comment on column insight.customer_values.first_day is 'PURCHASE';
comment on column insight.customer_values.last_day is 'ValueTier.recency.value';
comment on column insight.customer_values.days is 'ValueTier.frequency.value';
comment on column insight.customer_values.net_minor is 'ValueTier.monetary.value';
comment on column insight.customer_values.first_day_minor is 'PURCHASE';
comment on column insight.customer_values.recency_score is 'ValueTier.recency.score';
comment on column insight.customer_values.frequency_score is 'ValueTier.frequency.score';
comment on column insight.customer_values.monetary_score is 'ValueTier.monetary.score';
comment on column insight.edges.currency is 'OPERATIONAL';
comment on column insight.edges.recency is 'ValueTier.recency.edges';
comment on column insight.edges.frequency is 'ValueTier.frequency.edges';
comment on column insight.edges.monetary is 'ValueTier.monetary.edges';
comment on column insight.edges.customer_count is 'ValueTier.customer_count';
comment on column insight.edges.counted_at is 'ValueTier.counted_time';
comment on column insight.recounts.singleton is 'OPERATIONAL';
comment on column insight.recounts.seq is 'OPERATIONAL';
