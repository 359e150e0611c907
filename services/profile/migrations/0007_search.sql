-- Customers as they were created, all and of a country, for listings by what a filter asks.
alter table profile.profiles
    add column country text not null generated always as (split_part(region, '-', 1)) stored;
create index profiles_created_at_idx on profile.profiles (created_at, customer_id);
create index profiles_country_idx on profile.profiles (country, created_at, customer_id);
comment on column profile.profiles.country is 'Profile.region';
