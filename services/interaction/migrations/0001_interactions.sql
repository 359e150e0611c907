-- What passed between a customer and the company.

-- Devices and anonymous visitors by keyed hash; a customer once it is known who they are.
create table interaction.visitors (
    hash bytea not null,
    customer_id uuid,
    constraint visitors_pkey primary key (hash),
    constraint visitors_customer_id_fkey foreign key (customer_id) references interaction.customers (customer_id)
);
create index visitors_customer_id_idx on interaction.visitors (customer_id);

create table interaction.interactions (
    interaction_id uuid not null,
    -- The customer, or the visitor whom nobody knows yet.
    customer_id uuid,
    visitor_hash bytea,
    occurred_at timestamptz not null,
    received_at timestamptz not null default now(),
    channel integer not null,
    direction integer not null,
    topic text not null,
    agent_id text not null,
    duration_ms bigint,
    outcome text not null,
    satisfaction integer not null,
    -- The transcript, and the visitor's own id; null when there is neither.
    sealed bytea,
    constraint interactions_pkey primary key (interaction_id),
    constraint interactions_customer_id_fkey foreign key (customer_id) references interaction.customers (customer_id),
    constraint interactions_visitor_hash_fkey foreign key (visitor_hash) references interaction.visitors (hash),
    constraint interactions_subject_check check (customer_id is not null or visitor_hash is not null)
);
create index interactions_customer_id_idx on interaction.interactions (customer_id, occurred_at desc, interaction_id desc);
-- What moves when a visitor becomes known.
create index interactions_visitor_hash_idx on interaction.interactions (visitor_hash) where customer_id is null;

create table interaction.cases (
    case_id uuid not null,
    customer_id uuid not null,
    kind integer not null,
    severity integer not null,
    owner_id text not null,
    -- Subject, description and resolution.
    sealed bytea not null,
    opened_at timestamptz not null default now(),
    closed_at timestamptz,
    constraint cases_pkey primary key (case_id),
    constraint cases_customer_id_fkey foreign key (customer_id) references interaction.customers (customer_id),
    constraint cases_closed_check check (closed_at >= opened_at)
);
create index cases_customer_id_idx on interaction.cases (customer_id, case_id desc);
create index cases_open_idx on interaction.cases (customer_id, case_id) where closed_at is null;
