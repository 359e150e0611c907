-- A customer has few contact points, and contact_points_value_key begins with the customer: each write of a point
-- paid for an index that no read needs.
drop index contact.contact_points_customer_id_idx;
