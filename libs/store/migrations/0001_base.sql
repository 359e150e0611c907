-- What every service's schema has: customers with their versions, answered requests, the outbox
-- and the number of the feed. Names are unqualified: the connection's search path is the schema.

-- One row per customer of whom the service has data. Every write raises `version` and so locks the
-- row: that serialises a customer's writes. A row is never deleted, so versions never restart.
create table customers (
    customer_id uuid not null,
    version bigint not null,
    state text not null default 'live',
    constraint customers_pkey primary key (customer_id),
    constraint customers_version_check check (version >= 0),
    constraint customers_state_check check (state in ('live', 'fenced', 'merged', 'erased'))
);

-- What was answered to a request id, so that a repeated write has one effect. The reply is sealed.
create table requests (
    caller text not null,
    method text not null,
    request_id uuid not null,
    digest bytea not null,
    reply bytea,
    customer_id uuid,
    created_at timestamptz not null default now(),
    constraint requests_pkey primary key (request_id, method, caller),
    constraint requests_reply_check check (octet_length(reply) <= 16384)
);
-- Erasure deletes a customer's stored replies; the purge deletes old ones.
create index requests_customer_id_idx on requests (customer_id) where customer_id is not null;
create index requests_created_at_idx on requests (created_at);

-- The outbox, with Debezium's column names. What is not in it did not happen. `seq` is drawn after
-- the customer's row is locked, so it rises within a customer.
create table changes (
    seq bigint generated always as identity (cache 1) not null,
    xid xid8 not null default pg_current_xact_id(),
    id uuid not null,
    aggregatetype text not null,
    aggregateid uuid not null,
    type text not null,
    payload jsonb not null,
    customer_version bigint not null,
    occurred_at timestamptz not null default now(),
    traceparent text not null,
    constraint changes_pkey primary key (seq),
    constraint changes_version_key unique (aggregateid, customer_version)
);
-- A follower asks for what a snapshot has not seen: xid >= xmax or xid in xip.
create index changes_xid_seq_idx on changes (xid, seq);

-- Every restore raises `epoch`, so that tokens of the lost future are refused.
create table feed (
    singleton boolean not null default true,
    epoch integer not null default 1,
    constraint feed_pkey primary key (singleton),
    constraint feed_singleton_check check (singleton)
);
insert into feed default values;
