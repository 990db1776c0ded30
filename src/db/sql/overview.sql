-- overview
-- Counts the queue: live orders through the claim index, ended ones in their own index only.
SELECT
    state AS "state!",
    count(*) AS "orders!",
    count(*) FILTER (WHERE due_at <= now()) AS "due!",
    count(*) FILTER (WHERE leased_until > now()) AS "leased!",
    count(*) FILTER (WHERE last_error_kind IS NOT NULL AND held_kind IS NULL) AS "failing!",
    -- New orders are due since the epoch.
    sync.within_calendar(min(greatest(due_at, enqueued_at)) FILTER (WHERE due_at <= now())) AS oldest_due_at,
    -- A good read restarts the window.
    sync.within_calendar(min(greatest(deadline_base, last_fetched_at))) AS nearest_deadline_base
FROM sync.order_queue
WHERE state IN ('pending', 'open')
GROUP BY state
UNION ALL
SELECT state, count(*), 0, 0, 0, NULL, NULL
FROM sync.order_queue
WHERE ended_at IS NOT NULL
GROUP BY state
