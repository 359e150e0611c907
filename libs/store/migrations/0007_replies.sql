-- A profile in all its forms is longer than it was.
alter table requests drop constraint requests_reply_check;
alter table requests add constraint requests_reply_check check (octet_length(reply) <= 65536);
