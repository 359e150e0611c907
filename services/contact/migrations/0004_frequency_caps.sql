-- How often a customer wishes to be addressed, by purpose: three lists side by side.
alter table contact.preferences
    add column cap_purposes text[] not null default '{}',
    add column cap_counts integer[] not null default '{}',
    add column cap_days integer[] not null default '{}',
    add constraint preferences_caps_check
        check (cardinality(cap_purposes) = cardinality(cap_counts) and cardinality(cap_counts) = cardinality(cap_days));
comment on column contact.preferences.cap_purposes is 'ContactPreferences.frequency_caps, FrequencyCap.purpose_id';
comment on column contact.preferences.cap_counts is 'FrequencyCap.max_count';
comment on column contact.preferences.cap_days is 'FrequencyCap.days';
