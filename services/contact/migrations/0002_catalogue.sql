-- The catalogue: what each column holds.
comment on column contact.contact_points.contact_point_id is 'ContactPoint.contact_point_id';
comment on column contact.contact_points.customer_id is 'ContactPoint.customer_id';
comment on column contact.contact_points.kind is 'OPERATIONAL';
comment on column contact.contact_points.hash is 'hash ContactPoint.email, ContactPoint.phone, ContactPoint.postal_address, ContactPoint.social_handle';
comment on column contact.contact_points.sealed is 'sealed ContactPoint.email, ContactPoint.phone, ContactPoint.postal_address, ContactPoint.social_handle, ContactPoint.label';
comment on column contact.contact_points.is_primary is 'ContactPoint.primary';
comment on column contact.contact_points.version is 'ContactPoint.etag';
comment on column contact.contact_points.created_at is 'ContactPoint.create_time';
comment on column contact.contact_points.updated_at is 'ContactPoint.update_time';
