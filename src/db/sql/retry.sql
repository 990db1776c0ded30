-- Puts orders back: due now, no failures counted. Each of the three ways has an index of its own.
UPDATE sync.order_queue
SET state = CASE WHEN coalesce(last_fetched_at, last_changed_at) IS NULL THEN 'pending' ELSE 'open' END,
    due_at = now(),
    failures = 0,
    counted_failures = 0,
    closed_at = NULL,
    held_kind = NULL,
    held_since = NULL,
    held_times = NULL,
    held_id_space = NULL,
    -- The next good read then writes the order's status again even if the conversation is the same.
    content_hash = NULL,
    lease_id = NULL,
    leased_until = NULL
WHERE ($1 AND state = 'dead' AND ended_at IS NOT NULL)
   OR order_id = ANY ($2)
   -- The answer came before it was recorded: whatever was closed since then has ended since then.
   OR (state = 'closed' AND ended_at >= $3 AND closed_at >= $3)
