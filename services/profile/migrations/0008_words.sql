-- By customer words are only ever looked up, never walked: a btree would let a search for a common word walk all words of all
-- customers in the order of customers, which Postgres takes for cheap where few words are known.
drop index profile.name_tokens_customer_id_idx;
create index name_tokens_customer_id_idx on profile.name_tokens using hash (customer_id);
