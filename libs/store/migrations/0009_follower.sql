-- Which process follows a feed, and until when the others leave it alone. It saves work and decides nothing: two that
-- follow at once stop each other at the cursor.
alter table cursors add column follower uuid, add column held_until timestamptz;
comment on column cursors.follower is 'OPERATIONAL';
comment on column cursors.held_until is 'OPERATIONAL';
