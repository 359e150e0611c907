-- The greatest transaction whose changes were purged: a cursor that may not have seen it has a gap.
alter table feed add column purged_xid xid8 not null default '0';

-- How far this service is in the feeds of others, written with what it derived from them.
create table cursors (
    feed text not null,
    resume_token text not null,
    constraint cursors_pkey primary key (feed)
);
