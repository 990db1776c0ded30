-- Marks stored messages that a full reply no longer has. The row stays.
UPDATE chat.messages AS m
SET removed_at = o.seen_at,
    updated_at = now()
FROM unnest($1::text[], $2::timestamptz[]) AS o (order_id, seen_at)
WHERE m.order_id = o.order_id
  AND m.removed_at IS NULL
  AND NOT EXISTS (
      SELECT FROM unnest($3::text[], $4::bigint[]) AS r (order_id, message_id)
      WHERE r.order_id = m.order_id AND r.message_id = m.message_id
  )
