-- What a customer allowed. Records are only ever added.
create table consent.purposes (
    purpose_id text not null,
    display_name text not null,
    legal_basis integer not null,
    notice_version integer not null,
    created_at timestamptz not null default now(),
    constraint purposes_pkey primary key (purpose_id)
);

create table consent.notices (
    purpose_id text not null,
    version integer not null,
    language text not null,
    text text not null,
    sha256 text not null,
    published_at timestamptz not null default now(),
    constraint notices_pkey primary key (purpose_id, version, language),
    constraint notices_purpose_id_fkey foreign key (purpose_id) references consent.purposes (purpose_id)
);

-- Which versions there are, for records to point at.
create table consent.notice_versions (
    purpose_id text not null,
    version integer not null,
    constraint notice_versions_pkey primary key (purpose_id, version),
    constraint notice_versions_purpose_id_fkey foreign key (purpose_id) references consent.purposes (purpose_id)
);

create table consent.records (
    record_id uuid not null,
    customer_id uuid not null,
    -- The customer's version that this record made: the order of the chain.
    version bigint not null,
    purpose_id text not null,
    channel integer not null,
    decision integer not null,
    method text not null,
    notice_version integer not null,
    language text not null,
    -- Where the proof is; it may name a person.
    sealed bytea not null,
    recorded_at timestamptz not null,
    expires_at timestamptz,
    -- Each record names the hash of the customer's record before it.
    previous_hash bytea not null,
    hash bytea not null,
    constraint records_pkey primary key (record_id),
    constraint records_version_key unique (customer_id, version),
    constraint records_customer_id_fkey foreign key (customer_id) references consent.customers (customer_id),
    constraint records_purpose_id_fkey foreign key (purpose_id) references consent.purposes (purpose_id),
    constraint records_notice_fkey foreign key (purpose_id, notice_version)
        references consent.notice_versions (purpose_id, version)
);
create index records_purpose_idx on consent.records (customer_id, purpose_id, version desc);

create function consent.records_are_final() returns trigger language plpgsql as $$
begin
    raise exception 'consent records never change' using constraint = 'records_are_final';
end $$;
create trigger records_are_final before update or delete on consent.records
    for each statement execute function consent.records_are_final();
