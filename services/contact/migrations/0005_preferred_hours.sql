-- When a customer likes to be addressed.
alter table contact.preferences
    add column preferred_from_minute integer,
    add column preferred_until_minute integer,
    add constraint preferences_preferred_check check ((preferred_from_minute is null) = (preferred_until_minute is null));
comment on column contact.preferences.preferred_from_minute is 'ContactPreferences.preferred_from_minute';
comment on column contact.preferences.preferred_until_minute is 'ContactPreferences.preferred_until_minute';
