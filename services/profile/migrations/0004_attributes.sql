-- What a company wants to know of customers beyond the contract.
create table profile.attribute_definitions (
    name text not null,
    display_name text not null,
    type integer not null,
    data_category integer not null,
    purpose text not null,
    retention_days integer not null,
    allowed_values text[] not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint attribute_definitions_pkey primary key (name)
);
comment on column profile.attribute_definitions.name is 'AttributeDefinition.name';
comment on column profile.attribute_definitions.display_name is 'AttributeDefinition.display_name';
comment on column profile.attribute_definitions.type is 'AttributeDefinition.type';
comment on column profile.attribute_definitions.data_category is 'AttributeDefinition.data_category';
comment on column profile.attribute_definitions.purpose is 'AttributeDefinition.purpose';
comment on column profile.attribute_definitions.retention_days is 'AttributeDefinition.retention_days';
comment on column profile.attribute_definitions.allowed_values is 'AttributeDefinition.allowed_values';
comment on column profile.attribute_definitions.created_at is 'AttributeDefinition.create_time';
comment on column profile.attribute_definitions.updated_at is 'AttributeDefinition.update_time';

comment on column profile.profiles.sealed is 'sealed Profile.name, Profile.birth_date, Profile.gender_description, Profile.pronouns, Profile.marital_status, Profile.children, Profile.occupation, Profile.education, Profile.income, Profile.credit, Profile.preferences, Profile.traits, Profile.attributes, Profile.social_standings';
