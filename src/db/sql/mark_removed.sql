-- Marks stored messages that a full reply no longer has. The row stays.
UPDATE chat.messages AS m
SET removed_at = o.seen_at,
    updated_at = now()
FROM unnest($1::text[], $2::timestamptz[]) AS o (order_id, seen_at)
WHERE m.order_id = o.order_id
  -- Said twice: whichever side a plan begins with, it reads no rows of other orders.
  AND m.order_id = ANY ($1)
  AND m.removed_at IS NULL
  -- Not a join, which might compare all with all: a subquery that stands alone is hashed. There are no nulls in it.
  AND (m.order_id, m.message_id) NOT IN (
      SELECT order_id, message_id FROM unnest($3::text[], $4::bigint[]) AS r (order_id, message_id)
  )
