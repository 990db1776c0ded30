-- Marks stored messages that a full reply no longer has. The row stays.
UPDATE chat.messages AS m
SET removed_at = o.seen_at,
    updated_at = now()
-- $3 holds for each order the ids in the reply as the text of an array: arrays of arrays must not be ragged.
FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS o (order_id, seen_at, message_ids)
WHERE m.order_id = o.order_id
  AND m.removed_at IS NULL
  AND m.message_id <> ALL (o.message_ids::bigint[])
