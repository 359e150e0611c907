-- A count forgets what it has seen by customer, and so does an erasure.
create index base_changes_customer_id_idx on insight.base_changes (customer_id, seq);
