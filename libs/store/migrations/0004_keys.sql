-- Keys that wrap the data keys of this schema's service. They are wrapped themselves, by a key-encryption
-- key that no database holds. The newest wraps; an older one stays until nothing is wrapped by it.
create table service_keys (
    number integer not null,
    wrapped_by text not null,
    wrapped bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint service_keys_pkey primary key (number)
);

-- Keys that seal. An owner is a customer, a visitor whom nobody knows yet, or, with the nil id, the service
-- itself. A destroyed key keeps its name, which tells what was destroyed from what was lost.
create table data_keys (
    key_id uuid not null,
    owner_id uuid not null,
    service_key integer,
    wrapped bytea,
    created_at timestamptz not null default clock_timestamp(),
    destroyed_at timestamptz,
    constraint data_keys_pkey primary key (key_id),
    constraint data_keys_service_key_fkey foreign key (service_key) references service_keys (number),
    constraint data_keys_destroyed_check
        check ((destroyed_at is null) = (wrapped is not null) and (wrapped is null) = (service_key is null))
);
create index data_keys_owner_id_idx on data_keys (owner_id, created_at);
-- What a turned service key still wraps.
create index data_keys_service_key_idx on data_keys (service_key) where wrapped is not null;

-- Replies are sealed under their customer's key now; those from before do not open any more.
delete from requests;
