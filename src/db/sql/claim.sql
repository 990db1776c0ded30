-- Claims the next orders in due order, after a cursor. Commits on its own: no transaction is open while HTTP goes on.
-- Locks only rows that nobody else holds; an expired lease is taken over here and nowhere else.
WITH picked AS (
    SELECT order_id
    FROM sync.order_queue
    WHERE state IN ('pending', 'open')
      AND due_at <= $1
      -- Under this very lease: claimed by an earlier try of this statement, whose answer was lost.
      AND (leased_until IS NULL OR leased_until <= now() OR lease_id = $7)
      AND (-priority::integer, deadline_base, order_id) > ($2, $3, $4)
      AND ($5::text[] IS NULL OR order_id = ANY ($5))
    ORDER BY -priority::integer, deadline_base, order_id
    LIMIT $6
    FOR UPDATE SKIP LOCKED
)
UPDATE sync.order_queue AS q
SET lease_id = $7,
    leased_until = now() + $8
FROM picked
LEFT JOIN chat.orders AS o ON o.order_id = picked.order_id
WHERE q.order_id = picked.order_id
RETURNING
    q.order_id,
    q.connect_user_id,
    q.ids_internal,
    q.retailer_id,
    q.attempts,
    q.strikes,
    q.last_fetched_at,
    q.last_changed_at,
    q.expired_at,
    q.content_hash,
    coalesce(o.message_count > 0, false) AS "has_messages!",
    q.enqueued_at,
    q.completed_at,
    o.last_message_at AS "last_message_at?",
    -q.priority::integer AS "rank!",
    q.deadline_base
