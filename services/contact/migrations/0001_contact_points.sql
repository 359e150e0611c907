-- How to reach a customer. The value is sealed; look-ups compare a keyed hash of its normal form.
create table contact.contact_points (
    contact_point_id uuid not null,
    customer_id uuid not null,
    kind integer not null,
    hash bytea not null,
    sealed bytea not null,
    is_primary boolean not null,
    -- The customer's version when this row last changed: the etag.
    version bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint contact_points_pkey primary key (contact_point_id),
    -- A customer has a value once; several customers may share it.
    constraint contact_points_value_key unique (customer_id, kind, hash),
    constraint contact_points_customer_id_fkey foreign key (customer_id) references contact.customers (customer_id)
);
-- One primary per kind.
create unique index contact_points_primary_key on contact.contact_points (customer_id, kind) where is_primary;
create index contact_points_hash_idx on contact.contact_points (hash, kind);
create index contact_points_customer_id_idx on contact.contact_points (customer_id, contact_point_id);
