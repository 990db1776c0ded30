-- retry
-- Makes orders due now, with no failures counted. Each of the three conditions has an index.
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
    -- Without the hash, the next good read writes the status of the order even if the conversation is the same.
    content_hash = NULL,
    lease_id = NULL,
    leased_until = NULL
WHERE ($1 AND state = 'dead' AND ended_at IS NOT NULL)
   OR order_id = ANY ($2)
   -- An order ends after its reply came, so the condition on ended_at only makes the index usable.
   OR (state = 'closed' AND ended_at >= $3 AND closed_at >= $3)
