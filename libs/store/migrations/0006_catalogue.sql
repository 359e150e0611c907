-- The catalogue: what each column holds, as fields of the contract, or as a category where the contract has no
-- such field; "sealed" and "hash" say how; what follows a semicolon is how long, where the category's own
-- retention does not hold. `clientele catalogue` prints it, and a column without an entry is found by a test.
comment on column customers.customer_id is 'IDENTIFIER; without end, so that nobody who was erased comes back';
comment on column customers.version is 'OPERATIONAL; without end';
comment on column customers.state is 'OPERATIONAL; without end';
comment on column requests.caller is 'OPERATIONAL; 8 days';
comment on column requests.method is 'OPERATIONAL; 8 days';
comment on column requests.request_id is 'OPERATIONAL; 8 days';
comment on column requests.digest is 'hash CONTENT; 8 days';
comment on column requests.reply is 'sealed CONTENT; 8 days or until the customer is erased';
comment on column requests.customer_id is 'IDENTIFIER; 8 days or until the customer is erased';
comment on column requests.created_at is 'OPERATIONAL; 8 days';
comment on column changes.seq is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.xid is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.id is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.aggregatetype is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.type is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.payload is 'PURCHASE, INTERACTION, LOYALTY, CONSENT; as long as the feed reaches back';
comment on column changes.customer_version is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.occurred_at is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.traceparent is 'OPERATIONAL; as long as the feed reaches back';
comment on column changes.aggregateid is 'IDENTIFIER; as long as the feed reaches back';
comment on column feed.singleton is 'OPERATIONAL';
comment on column feed.epoch is 'OPERATIONAL';
comment on column feed.purged_xid is 'OPERATIONAL';
comment on column feed.journal_id is 'OPERATIONAL';
comment on column cursors.feed is 'OPERATIONAL';
comment on column cursors.resume_token is 'OPERATIONAL';
comment on column service_keys.number is 'OPERATIONAL';
comment on column service_keys.wrapped_by is 'OPERATIONAL';
comment on column service_keys.wrapped is 'OPERATIONAL';
comment on column service_keys.created_at is 'OPERATIONAL';
comment on column data_keys.key_id is 'OPERATIONAL; without end';
comment on column data_keys.owner_id is 'IDENTIFIER; without end';
comment on column data_keys.service_key is 'OPERATIONAL';
comment on column data_keys.wrapped is 'OPERATIONAL; until the customer is erased';
comment on column data_keys.created_at is 'OPERATIONAL; without end';
comment on column data_keys.destroyed_at is 'OPERATIONAL; without end';
