-- `now()` is when a transaction began, which may be before it waited for a customer's lock; the times
-- of a customer's changes must rise with the versions.
alter table changes alter column occurred_at set default clock_timestamp();

-- Replies are now sealed for their caller and method too; those from before do not open any more.
delete from requests;
