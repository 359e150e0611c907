-- What RecordOrder does for a new order of one line, as the same statements in one transaction.
\set n random(1, :customers)
begin;
set local statement_timeout = 5000;
select o.order_id from order_history.orders o join order_history.customers c using (customer_id) where (source, number) = ('pgbench', :client_id || '-' || :n);
insert into order_history.customers (customer_id, version) values (('00000000-0000-7000-8000-' || lpad(to_hex(:n), 12, '0'))::uuid, 1) on conflict (customer_id) do update set version = customers.version + excluded.version where customers.state = 'live' returning customer_id, version \gset
insert into order_history.orders (order_id, customer_id, source, number, content, placed_at, channel, store_id, state, currency, discount_minor, shipping_minor, tax_minor, total_minor, delivery_carrier, delivery_state, source_revision) values (gen_random_uuid(), ':customer_id', 'pgbench', gen_random_uuid()::text, sha256(gen_random_uuid()::text::bytea), now(), 1, '', 1, 'EUR', 0, 0, 0, 2000, '', 0, 0) on conflict (source, number) do nothing returning order_id \gset
insert into order_history.order_lines (order_id, line_number, sku, title, category_path, brand, quantity, unit_price_minor, discount_minor, tax_minor, amount_minor) values (':order_id', 1, 'CUP', '', '{}', '', 2, 1000, 0, 0, 2000) on conflict (order_id, line_number) do nothing;
insert into order_history.order_summaries as s (customer_id, currency, order_count, gross_minor, refunded_minor, first_placed_at, last_placed_at) values (':customer_id', 'EUR', 1, 2000, 0, now(), now()) on conflict (customer_id, currency) do update set order_count = s.order_count + excluded.order_count, gross_minor = s.gross_minor + excluded.gross_minor, first_placed_at = least(s.first_placed_at, excluded.first_placed_at), last_placed_at = greatest(s.last_placed_at, excluded.last_placed_at);
insert into order_history.changes (id, aggregatetype, aggregateid, type, payload, customer_version, traceparent) values (gen_random_uuid(), 'order', ':customer_id', 'order.recorded', '{"order_id": ":order_id", "total_minor": 2000, "currency_code": "EUR"}', :version, '');
commit;
