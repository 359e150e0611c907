-- What an order said in an earlier revision, as a keyed hash: heard again it is a repetition, not news.
alter table order_history.order_revisions add column content bytea;
-- The source's own count of an order's changes; 0 is unknown.
alter table order_history.orders add column source_revision bigint not null default 0;
alter table order_history.orders add constraint orders_source_revision_check check (source_revision >= 0);
