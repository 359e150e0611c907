-- Who a customer is. Names, birth date and self-description are sealed; what SQL filters by is a column.
create table profile.profiles (
    customer_id uuid not null,
    -- The customer's version when this row last changed: the etag.
    version bigint not null,
    sealed bytea not null,
    gender integer not null,
    language text not null,
    time_zone text not null,
    region text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint profiles_pkey primary key (customer_id),
    constraint profiles_customer_id_fkey foreign key (customer_id) references profile.customers (customer_id)
);

-- Ids in other systems. Look-ups compare a keyed hash; the id itself is sealed under the row's own id.
create table profile.external_ids (
    external_id_id uuid not null,
    customer_id uuid not null,
    system text not null,
    hash bytea not null,
    sealed bytea not null,
    constraint external_ids_pkey primary key (external_id_id),
    -- One id of a system leads to one customer.
    constraint external_ids_hash_key unique (hash, system),
    constraint external_ids_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id)
);
create index external_ids_customer_id_idx on profile.external_ids (customer_id, system, external_id_id);
