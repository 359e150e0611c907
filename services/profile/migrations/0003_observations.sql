-- What was ever said of a customer, by whom. A profile is the greatest of it, field by field.
create table profile.observations (
    observation_id uuid not null,
    customer_id uuid not null,
    -- The fields that it speaks of.
    fields text[] not null,
    sealed bytea not null,
    source integer not null,
    source_name text not null,
    observed_at timestamptz not null,
    confidence_percent integer not null,
    -- Keyed hash of all of it: the same again is no news.
    content bytea not null,
    -- The profile's own time, if this changed it.
    recorded_at timestamptz not null,
    constraint observations_pkey primary key (observation_id),
    constraint observations_content_key unique (customer_id, content),
    constraint observations_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id),
    constraint observations_confidence_check check (confidence_percent between 1 and 100)
);
create index observations_customer_id_idx on profile.observations (customer_id, recorded_at desc, observation_id desc);
comment on column profile.observations.observation_id is 'Observation.observation_id';
comment on column profile.observations.customer_id is 'Profile.customer_id';
comment on column profile.observations.fields is 'Observation.fields';
comment on column profile.observations.sealed is 'sealed Observation.profile';
comment on column profile.observations.source is 'Observation.provenance.source';
comment on column profile.observations.source_name is 'Observation.provenance.source_name';
comment on column profile.observations.observed_at is 'Observation.provenance.observed_time';
comment on column profile.observations.confidence_percent is 'Observation.provenance.confidence_percent';
comment on column profile.observations.content is 'hash Observation.profile';
comment on column profile.observations.recorded_at is 'Observation.record_time';

-- How much what a profile says weighs, by field.
alter table profile.profiles add column weights jsonb not null default '{}';
comment on column profile.profiles.weights is 'OPERATIONAL';
comment on column profile.profiles.sealed is 'sealed Profile.name, Profile.birth_date, Profile.gender_description, Profile.pronouns, Profile.marital_status, Profile.children, Profile.occupation, Profile.education, Profile.income, Profile.credit';

-- The words of names, as keyed hashes.
create table profile.name_tokens (
    hash bytea not null,
    customer_id uuid not null,
    constraint name_tokens_pkey primary key (hash, customer_id),
    constraint name_tokens_customer_id_fkey foreign key (customer_id) references profile.profiles (customer_id)
);
create index name_tokens_customer_id_idx on profile.name_tokens (customer_id);
comment on column profile.name_tokens.hash is 'hash Profile.name';
comment on column profile.name_tokens.customer_id is 'Profile.customer_id';
