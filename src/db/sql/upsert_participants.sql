-- upsert_participants
-- Adds participants. is_current is null where the reply does not name the current shopper; then the stored value stays.
INSERT INTO chat.participants AS p (order_id, user_type, user_id, role, is_current)
SELECT i.order_id, i.user_type, i.user_id, i.role, coalesce(i.is_current, k.is_current, false)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::boolean[])
     AS i (order_id, user_type, user_id, role, is_current)
LEFT JOIN chat.participants AS k USING (order_id, user_type, user_id, role)
WHERE k.order_id IS NULL
   OR i.is_current <> k.is_current
ORDER BY i.order_id COLLATE "C", i.user_type COLLATE "C", i.user_id, i.role COLLATE "C"
ON CONFLICT (order_id, user_type, user_id, role) DO UPDATE
SET is_current = excluded.is_current,
    -- Not overwritten: first_synced_at.
    updated_at = now()
