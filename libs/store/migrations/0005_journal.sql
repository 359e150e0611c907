-- The erasure journal that this database is served with. Another one would not know who was erased.
alter table feed add column journal_id uuid;
