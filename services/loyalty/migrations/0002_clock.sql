-- `now()` is when a transaction began, which may be before it waited for the customer's lock. Read by
-- time, the ledger must never show what was redeemed before what was accrued.
alter table loyalty.transactions alter column created_at set default clock_timestamp();
alter table loyalty.entries alter column created_at set default clock_timestamp();
