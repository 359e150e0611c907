-- What is known of reaching a contact point's value; another value begins anew.
alter table contact.contact_points
    add column deliverability integer not null default 0,
    add column deliverability_since timestamptz,
    add column verified_at timestamptz,
    -- Since when it has this value; null from the beginning. What was heard from before is of another one.
    add column value_since timestamptz;
comment on column contact.contact_points.deliverability is 'ContactPoint.deliverability.state';
comment on column contact.contact_points.deliverability_since is 'ContactPoint.deliverability.since_time';
comment on column contact.contact_points.verified_at is 'ContactPoint.verified_time';
comment on column contact.contact_points.value_since is 'OPERATIONAL';

-- What was heard of a contact point, by kind and day: the first and the last of each. No order and no repetition
-- of events makes another table of them.
create table contact.deliveries (
    contact_point_id uuid not null,
    kind integer not null,
    day date not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    constraint deliveries_pkey primary key (contact_point_id, kind, day),
    constraint deliveries_contact_point_id_fkey foreign key (contact_point_id)
        references contact.contact_points (contact_point_id) on delete cascade,
    constraint deliveries_times_check check (first_at <= last_at)
);
comment on column contact.deliveries.contact_point_id is 'DeliveryEvent.contact_point_id';
comment on column contact.deliveries.kind is 'DeliveryEvent.kind';
comment on column contact.deliveries.day is 'DeliveryEvent.occurred_time';
comment on column contact.deliveries.first_at is 'DeliveryEvent.occurred_time';
comment on column contact.deliveries.last_at is 'DeliveryEvent.occurred_time';

-- Verifications under way and those of the last hour, also of contact points that are gone, so that they count. A
-- code is a keyed hash.
create table contact.verifications (
    verification_id uuid not null,
    customer_id uuid not null,
    contact_point_id uuid not null,
    code bytea not null,
    tries integer not null default 0,
    started_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null default clock_timestamp() + '10 minutes',
    constraint verifications_pkey primary key (verification_id),
    constraint verifications_customer_id_fkey foreign key (customer_id) references contact.customers (customer_id),
    constraint verifications_tries_check check (tries between 0 and 5)
);
create index verifications_customer_id_idx on contact.verifications (customer_id, started_at);
create index verifications_started_at_idx on contact.verifications (started_at);
comment on column contact.verifications.customer_id is 'ContactPoint.customer_id; an hour, or until the next one is begun';
comment on column contact.verifications.verification_id is 'OPERATIONAL; an hour, or until the next one is begun';
comment on column contact.verifications.contact_point_id is 'ContactPoint.contact_point_id; an hour, or until the next one is begun';
comment on column contact.verifications.code is 'hash OPERATIONAL; an hour, or until the next one is begun';
comment on column contact.verifications.tries is 'OPERATIONAL; an hour, or until the next one is begun';
comment on column contact.verifications.started_at is 'OPERATIONAL; an hour, or until the next one is begun';
comment on column contact.verifications.expires_at is 'OPERATIONAL; an hour, or until the next one is begun';

-- How a customer wishes to be addressed.
create table contact.preferences (
    customer_id uuid not null,
    channels integer[] not null,
    quiet_from_minute integer,
    quiet_until_minute integer,
    updated_at timestamptz not null default clock_timestamp(),
    constraint preferences_pkey primary key (customer_id),
    constraint preferences_customer_id_fkey foreign key (customer_id) references contact.customers (customer_id),
    constraint preferences_quiet_check check ((quiet_from_minute is null) = (quiet_until_minute is null))
);
comment on column contact.preferences.customer_id is 'ContactPoint.customer_id';
comment on column contact.preferences.channels is 'ContactPreferences.channels';
comment on column contact.preferences.quiet_from_minute is 'ContactPreferences.quiet_from_minute';
comment on column contact.preferences.quiet_until_minute is 'ContactPreferences.quiet_until_minute';
comment on column contact.preferences.updated_at is 'OPERATIONAL';
