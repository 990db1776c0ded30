-- not_taken
-- Orders that are not in the queue although they were enqueued, or lack a fact of their line: a trigger has dropped or
-- changed it. $6, $7: feed id, reopen. Also counts those that were added under their own id, in this transaction.
SELECT coalesce(array_agg(t.order_id) FILTER (WHERE
           -- An order in chat.orders that has ended is known without a queue row.
           (q.order_id IS NULL AND (
               $7 OR NOT EXISTS (SELECT FROM chat.orders AS o WHERE o.order_id = t.order_id AND o.status <> 'open')
           ))
           OR (t.connect_user_id IS NOT NULL AND q.order_id IS NOT NULL AND q.connect_user_id IS NULL)
           OR (t.ids_internal IS NOT NULL AND q.order_id IS NOT NULL AND q.ids_internal IS NULL)
           OR (t.retailer_id IS NOT NULL AND q.order_id IS NOT NULL AND q.retailer_id IS NULL)
           OR (t.completed_at IS NOT NULL AND q.order_id IS NOT NULL AND q.completed_at IS DISTINCT FROM t.completed_at)
       ), '{}') AS "order_ids!",
       count(*) FILTER (WHERE q.fed_by = $6 AND q.enqueued_at = now()) AS "added!"
FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::timestamptz[])
     AS t (order_id, connect_user_id, ids_internal, retailer_id, completed_at)
LEFT JOIN sync.order_queue AS q USING (order_id)
