-- not_taken
-- Orders in the queue that still lack a fact of their line, or were completed at another time.
SELECT q.order_id
FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::timestamptz[])
     AS t (order_id, connect_user_id, ids_internal, retailer_id, completed_at)
JOIN sync.order_queue AS q USING (order_id)
WHERE (t.connect_user_id IS NOT NULL AND q.connect_user_id IS NULL)
   OR (t.ids_internal IS NOT NULL AND q.ids_internal IS NULL)
   OR (t.retailer_id IS NOT NULL AND q.retailer_id IS NULL)
   OR (t.completed_at IS NOT NULL AND q.completed_at IS DISTINCT FROM t.completed_at)
