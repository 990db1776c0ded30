-- bury
-- Settles claimed orders whose rows cannot be used as dead. Finds them by key only, because any other column may be
-- bad. The claim has locked the rows already.
UPDATE sync.order_queue AS q
SET state           = 'dead',
    due_at          = now(),
    last_error_kind = $4,
    last_error      = b.reason,
    held_kind       = NULL,
    held_since      = NULL,
    held_times      = NULL,
    held_id_space   = NULL,
    lease_id        = NULL,
    leased_until    = NULL
FROM unnest($1::text[], $2::text[]) AS b (order_id, reason)
WHERE q.order_id = b.order_id
  AND q.order_id = ANY ($1)
  AND q.lease_id = $3
