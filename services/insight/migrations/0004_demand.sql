-- How purchases are made, so that demand and habits can be counted.
alter table insight.purchases
    -- The number of the sales channel.
    add column channel integer not null default 0,
    add column store_id text not null default '',
    -- How most of it was paid.
    add column payment_method text not null default '',
    -- What was taken off the order and its lines.
    add column discount_minor bigint not null default 0,
    add constraint purchases_discount_check check (discount_minor >= 0);
-- Lines are joined with the items when they are written, and no item is ever deleted.
alter table insight.purchase_lines drop constraint purchase_lines_item_id_fkey;
create index purchases_placed_at_idx on insight.purchases (placed_at);
create index purchase_lines_item_id_idx on insight.purchase_lines (item_id);

comment on column insight.purchases.channel is 'PURCHASE';
comment on column insight.purchases.store_id is 'PURCHASE';
comment on column insight.purchases.payment_method is 'PURCHASE';
comment on column insight.purchases.discount_minor is 'PURCHASE';
