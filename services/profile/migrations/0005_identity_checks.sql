-- Who asked whether somebody is a customer, and what came out. The answers are never kept.
create table profile.identity_checks (
    check_id uuid not null,
    customer_id uuid not null,
    checked_at timestamptz not null default clock_timestamp(),
    caller text not null,
    purpose text not null,
    asked text[] not null,
    level integer not null,
    constraint identity_checks_pkey primary key (check_id),
    constraint identity_checks_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id)
);
create index identity_checks_customer_id_idx
    on profile.identity_checks (customer_id, checked_at desc, check_id desc);
comment on column profile.identity_checks.check_id is 'IdentityCheck.check_id';
comment on column profile.identity_checks.customer_id is 'Profile.customer_id';
comment on column profile.identity_checks.checked_at is 'IdentityCheck.check_time';
comment on column profile.identity_checks.caller is 'IdentityCheck.caller';
comment on column profile.identity_checks.purpose is 'IdentityCheck.purpose';
comment on column profile.identity_checks.asked is 'IdentityCheck.asked';
comment on column profile.identity_checks.level is 'IdentityCheck.level';
