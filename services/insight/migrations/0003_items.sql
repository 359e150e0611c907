-- What was sold, as the newest order describes it.
create table insight.items (
    item_id integer generated always as identity,
    sku text not null,
    title text not null,
    category_path text[] not null,
    brand text not null,
    -- What one cost last.
    price_minor bigint not null,
    currency text not null,
    constraint items_pkey primary key (item_id),
    constraint items_sku_key unique (sku)
);

-- What was bought with each purchase and not given back.
create table insight.purchase_lines (
    order_id uuid not null,
    line_number integer not null,
    item_id integer not null,
    quantity bigint not null,
    amount_minor bigint not null,
    constraint purchase_lines_pkey primary key (order_id, line_number),
    constraint purchase_lines_order_id_fkey foreign key (order_id) references insight.purchases (order_id) on delete cascade,
    constraint purchase_lines_item_id_fkey foreign key (item_id) references insight.items (item_id),
    constraint purchase_lines_quantity_check check (quantity > 0)
);

-- What was followed before had no lines: everyone's present state is read anew.
delete from insight.cursors;

comment on column insight.items.item_id is 'OPERATIONAL';
comment on column insight.items.sku is 'Item.sku';
comment on column insight.items.title is 'Item.title';
comment on column insight.items.category_path is 'Item.category_path';
comment on column insight.items.brand is 'Item.brand';
comment on column insight.items.price_minor is 'Item.price_minor';
comment on column insight.items.currency is 'Item.currency_code';
comment on column insight.purchase_lines.order_id is 'IDENTIFIER';
comment on column insight.purchase_lines.line_number is 'PURCHASE';
comment on column insight.purchase_lines.item_id is 'PURCHASE';
comment on column insight.purchase_lines.quantity is 'PURCHASE';
comment on column insight.purchase_lines.amount_minor is 'PURCHASE';
