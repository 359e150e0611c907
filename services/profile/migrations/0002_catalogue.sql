-- The catalogue: what each column holds.
comment on column profile.profiles.customer_id is 'Profile.customer_id';
comment on column profile.profiles.version is 'Profile.etag';
comment on column profile.profiles.sealed is 'sealed Profile.name, Profile.birth_date, Profile.gender_description';
comment on column profile.profiles.gender is 'Profile.gender';
comment on column profile.profiles.language is 'Profile.language';
comment on column profile.profiles.time_zone is 'Profile.time_zone';
comment on column profile.profiles.region is 'Profile.region';
comment on column profile.profiles.created_at is 'Profile.create_time';
comment on column profile.profiles.updated_at is 'Profile.update_time';
comment on column profile.external_ids.external_id_id is 'OPERATIONAL';
comment on column profile.external_ids.customer_id is 'Profile.customer_id';
comment on column profile.external_ids.system is 'Profile.external_ids.system';
comment on column profile.external_ids.hash is 'hash Profile.external_ids.id';
comment on column profile.external_ids.sealed is 'sealed Profile.external_ids.id';
