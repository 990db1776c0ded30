-- mark_removed
-- Marks stored messages that a complete reply no longer contains. The rows stay.
UPDATE chat.messages AS m
SET removed_at = o.seen_at,
    updated_at = now()
FROM unnest($1::text[], $2::timestamptz[]) AS o (order_id, seen_at)
WHERE m.order_id = o.order_id
  -- Redundant, so that no plan can read rows of other orders, whichever side it starts with.
  AND m.order_id = ANY ($1)
  AND m.removed_at IS NULL
  -- NOT IN, because an uncorrelated subquery is hashed; a join might compare all pairs. There are no nulls.
  AND (m.order_id, m.message_id) NOT IN (
      SELECT order_id, message_id FROM unnest($3::text[], $4::bigint[]) AS r (order_id, message_id)
  )
