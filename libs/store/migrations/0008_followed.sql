-- Until when the followed service's changes are known here; null while everyone's present state is being read.
alter table cursors add column followed_at timestamptz;
comment on column cursors.followed_at is 'OPERATIONAL';
