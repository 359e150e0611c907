-- What was promised to a customer. Points are money: double entry, and entries never change.
create table loyalty.programmes (
    programme_id text not null,
    display_name text not null,
    expiry_months integer not null,
    created_at timestamptz not null default now(),
    constraint programmes_pkey primary key (programme_id)
);

create table loyalty.members (
    member_id uuid not null,
    customer_id uuid not null,
    programme_id text not null,
    -- Card numbers are drawn from this, with a check digit behind.
    serial bigint generated always as identity (cache 1) not null,
    member_number text not null,
    -- The sum of what is left of the lots, whether or not their time is over.
    balance bigint not null default 0,
    enrolled_at timestamptz not null default now(),
    constraint members_pkey primary key (member_id),
    constraint members_number_key unique (member_number),
    constraint members_customer_programme_key unique (customer_id, programme_id),
    constraint members_customer_id_fkey foreign key (customer_id) references loyalty.customers (customer_id),
    constraint members_programme_id_fkey foreign key (programme_id) references loyalty.programmes (programme_id),
    constraint members_balance_check check (balance >= 0),
    constraint members_balance_limit_check check (balance <= 1000000000000)
);

create table loyalty.transactions (
    transaction_id uuid not null,
    member_id uuid not null,
    kind integer not null,
    cause text not null,
    reverses_id uuid,
    created_at timestamptz not null default now(),
    constraint transactions_pkey primary key (transaction_id),
    -- Nothing is undone twice.
    constraint transactions_reverses_id_key unique (reverses_id),
    constraint transactions_member_id_fkey foreign key (member_id) references loyalty.members (member_id),
    constraint transactions_reverses_id_fkey foreign key (reverses_id) references loyalty.transactions (transaction_id)
);

-- Points that expire together; the id is that of the accrual that gave them.
create table loyalty.lots (
    lot_id uuid not null,
    member_id uuid not null,
    points bigint not null,
    remaining bigint not null,
    expires_at timestamptz,
    constraint lots_pkey primary key (lot_id),
    constraint lots_lot_id_fkey foreign key (lot_id) references loyalty.transactions (transaction_id),
    constraint lots_member_id_fkey foreign key (member_id) references loyalty.members (member_id),
    constraint lots_remaining_check check (remaining between 0 and points)
);
create index lots_member_id_idx on loyalty.lots (member_id, expires_at, lot_id) where remaining > 0;

create table loyalty.entries (
    entry_id uuid not null,
    transaction_id uuid not null,
    member_id uuid not null,
    account integer not null,
    lot_id uuid not null,
    points bigint not null,
    created_at timestamptz not null default now(),
    constraint entries_pkey primary key (entry_id),
    constraint entries_transaction_id_fkey foreign key (transaction_id) references loyalty.transactions (transaction_id),
    constraint entries_lot_id_fkey foreign key (lot_id) references loyalty.lots (lot_id),
    constraint entries_member_id_fkey foreign key (member_id) references loyalty.members (member_id),
    constraint entries_points_check check (points <> 0)
);
create index entries_member_id_idx on loyalty.entries (member_id, created_at desc, entry_id desc);
create index entries_transaction_id_idx on loyalty.entries (transaction_id);

create function loyalty.entries_are_final() returns trigger language plpgsql as $$
begin
    raise exception 'ledger entries never change' using constraint = 'entries_are_final';
end $$;
create trigger entries_are_final before update or delete on loyalty.entries
    for each statement execute function loyalty.entries_are_final();

-- Double entry: at commit the entries of a transaction add up to nothing.
create function loyalty.entries_balance() returns trigger language plpgsql as $$
begin
    if (select sum(points) from loyalty.entries where transaction_id = new.transaction_id) <> 0 then
        raise exception 'the entries of a transaction do not balance' using constraint = 'entries_balance';
    end if;
    return null;
end $$;
create constraint trigger entries_balance after insert on loyalty.entries
    deferrable initially deferred for each row execute function loyalty.entries_balance();
