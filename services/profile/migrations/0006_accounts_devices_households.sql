-- How a customer signs in.
create table profile.accounts (
    customer_id uuid not null,
    sealed bytea not null,
    second_factors integer[] not null,
    -- An Argon2id verifier, sealed; none without a password.
    verifier bytea,
    password_at timestamptz,
    -- Wrong passwords since the last right one or the last lock.
    failures integer not null default 0,
    locked_until timestamptz,
    last_sign_in_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    constraint accounts_pkey primary key (customer_id),
    constraint accounts_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id)
);
-- What leads to an account: its user name and federated subjects, as keyed hashes.
create table profile.account_names (
    hash bytea not null,
    customer_id uuid not null,
    constraint account_names_pkey primary key (hash),
    constraint account_names_customer_id_fkey foreign key (customer_id) references profile.accounts (customer_id)
);
create index account_names_customer_id_idx on profile.account_names (customer_id);
comment on column profile.accounts.customer_id is 'Account.customer_id';
comment on column profile.accounts.sealed is 'sealed Account.user_name, Account.federated_subjects';
comment on column profile.accounts.second_factors is 'Account.second_factors';
comment on column profile.accounts.verifier is 'sealed CONTENT';
comment on column profile.accounts.password_at is 'Account.password_time';
comment on column profile.accounts.failures is 'OPERATIONAL';
comment on column profile.accounts.locked_until is 'Account.lock_end_time';
comment on column profile.accounts.last_sign_in_at is 'Account.last_sign_in_time';
comment on column profile.accounts.created_at is 'Account.create_time';
comment on column profile.account_names.hash is 'hash Account.user_name, Account.federated_subjects';
comment on column profile.account_names.customer_id is 'Profile.customer_id';

-- With what customers come.
create table profile.devices (
    device_row_id uuid not null,
    customer_id uuid not null,
    -- Of the device's own id, or of its type, system and browser.
    hash bytea not null,
    sealed bytea not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    constraint devices_pkey primary key (device_row_id),
    constraint devices_hash_key unique (customer_id, hash),
    constraint devices_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id)
);
comment on column profile.devices.device_row_id is 'OPERATIONAL';
comment on column profile.devices.customer_id is 'Profile.customer_id';
comment on column profile.devices.hash is 'hash Device.device_id, Device.type, Device.operating_system, Device.browser';
comment on column profile.devices.sealed is 'sealed Device.device_id, Device.type, Device.operating_system, Device.operating_system_version, Device.browser, Device.browser_version, Device.app_version, Device.network, Device.network_kind, Device.provider, Device.speed_band';
comment on column profile.devices.first_seen_at is 'Device.first_seen_time';
comment on column profile.devices.last_seen_at is 'Device.last_seen_time';

-- Who lives together.
create table profile.households (
    household_id uuid not null,
    constraint households_pkey primary key (household_id)
);
create table profile.household_members (
    -- A customer is in one household.
    customer_id uuid not null,
    household_id uuid not null,
    role integer not null,
    joined_at timestamptz not null default clock_timestamp(),
    constraint household_members_pkey primary key (customer_id),
    constraint household_members_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id),
    constraint household_members_household_id_fkey foreign key (household_id) references profile.households (household_id)
);
create index household_members_household_id_idx on profile.household_members (household_id, joined_at);
comment on column profile.households.household_id is 'Household.household_id';
comment on column profile.household_members.customer_id is 'Household.members.customer_id';
comment on column profile.household_members.household_id is 'Household.household_id';
comment on column profile.household_members.role is 'Household.members.role';
comment on column profile.household_members.joined_at is 'Household.members.join_time';

-- What customers say of each other.
create table profile.relations (
    customer_id uuid not null,
    other_customer_id uuid not null,
    kind integer not null,
    permitted boolean not null,
    updated_at timestamptz not null default clock_timestamp(),
    constraint relations_pkey primary key (customer_id, other_customer_id, kind),
    constraint relations_self_check check (customer_id <> other_customer_id),
    constraint relations_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id),
    constraint relations_other_customer_id_fkey foreign key (other_customer_id) references profile.profiles (customer_id)
);
create index relations_other_customer_id_idx on profile.relations (other_customer_id);
comment on column profile.relations.customer_id is 'Profile.customer_id';
comment on column profile.relations.other_customer_id is 'Relation.other_customer_id';
comment on column profile.relations.kind is 'Relation.kind';
comment on column profile.relations.permitted is 'Relation.permitted';
comment on column profile.relations.updated_at is 'Relation.update_time';
