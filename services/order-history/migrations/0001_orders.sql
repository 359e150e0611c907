-- What a customer bought. Amounts are minor units of the order's one currency.
create table order_history.orders (
    order_id uuid not null,
    customer_id uuid not null,
    source text not null,
    number text not null,
    revision integer not null default 1,
    -- Keyed hash of the order as it was recorded: the same content again changes nothing.
    content bytea not null,
    placed_at timestamptz not null,
    channel integer not null,
    store_id text not null,
    state integer not null,
    currency text not null,
    discount_minor bigint not null,
    shipping_minor bigint not null,
    tax_minor bigint not null,
    total_minor bigint not null,
    refunded_minor bigint not null default 0,
    delivery_method text,
    delivery_carrier text not null default '',
    delivery_state integer not null default 0,
    -- The delivery's address and tracking number and what tells payments apart; null when there is nothing.
    sealed bytea,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint orders_pkey primary key (order_id),
    -- The natural key: one order of a source is one order here.
    constraint orders_number_key unique (source, number),
    constraint orders_customer_id_fkey foreign key (customer_id) references order_history.customers (customer_id),
    constraint orders_total_check check (total_minor >= 0),
    -- Nobody gets back more than the order cost.
    constraint orders_refunded_check check (refunded_minor between 0 and total_minor)
);
create index orders_customer_id_idx on order_history.orders (customer_id, placed_at desc, order_id desc);

create table order_history.order_lines (
    order_id uuid not null,
    line_number integer not null,
    sku text not null,
    title text not null,
    category_path text[] not null,
    brand text not null,
    quantity bigint not null,
    quantity_returned bigint not null default 0,
    unit_price_minor bigint,
    discount_minor bigint not null,
    tax_minor bigint not null,
    amount_minor bigint not null,
    constraint order_lines_pkey primary key (order_id, line_number),
    constraint order_lines_order_id_fkey foreign key (order_id) references order_history.orders (order_id),
    -- Nobody gives back more than was ordered.
    constraint order_lines_returned_check check (quantity_returned between 0 and quantity)
);

create table order_history.payments (
    order_id uuid not null,
    position integer not null,
    method text not null,
    amount_minor bigint not null,
    state integer not null,
    constraint payments_pkey primary key (order_id, position),
    constraint payments_order_id_fkey foreign key (order_id) references order_history.orders (order_id)
);

create table order_history.returns (
    return_id uuid not null,
    order_id uuid not null,
    refund_minor bigint not null,
    reason text not null,
    returned_at timestamptz not null,
    constraint returns_pkey primary key (return_id),
    constraint returns_order_id_fkey foreign key (order_id) references order_history.orders (order_id),
    constraint returns_refund_check check (refund_minor >= 0)
);
create index returns_order_id_idx on order_history.returns (order_id, returned_at, return_id);

create table order_history.return_lines (
    return_id uuid not null,
    order_id uuid not null,
    line_number integer not null,
    quantity bigint not null,
    constraint return_lines_pkey primary key (return_id, line_number),
    constraint return_lines_return_id_fkey foreign key (return_id) references order_history.returns (return_id),
    -- A line that came back cannot vanish from its order.
    constraint return_lines_line_fkey foreign key (order_id, line_number)
        references order_history.order_lines (order_id, line_number)
);
create index return_lines_order_id_idx on order_history.return_lines (order_id, line_number);

-- What an order was before a revision, whole and sealed.
create table order_history.order_revisions (
    order_id uuid not null,
    revision integer not null,
    sealed bytea not null,
    replaced_at timestamptz not null default now(),
    constraint order_revisions_pkey primary key (order_id, revision),
    constraint order_revisions_order_id_fkey foreign key (order_id) references order_history.orders (order_id)
);

-- Totals per customer and currency over orders that are not cancelled, kept with each write and
-- equal to a recount at any time.
create table order_history.order_summaries (
    customer_id uuid not null,
    currency text not null,
    order_count bigint not null,
    gross_minor bigint not null,
    refunded_minor bigint not null,
    first_placed_at timestamptz not null,
    last_placed_at timestamptz not null,
    constraint order_summaries_pkey primary key (customer_id, currency),
    constraint order_summaries_customer_id_fkey foreign key (customer_id) references order_history.customers (customer_id),
    constraint order_summaries_count_check check (order_count > 0)
);
