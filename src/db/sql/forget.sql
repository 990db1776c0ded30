-- forget
-- Deletes up to $2 orders that ended longer ago than $1, oldest first in each state. Keeps dead ones: they need a
-- person. Skips locked rows.
DELETE FROM sync.order_queue
WHERE ctid = ANY (ARRAY(
    SELECT old.ctid
    -- State by state: over several states the index gives no order by time, and the planner would scan the whole table
    -- for every batch.
    FROM unnest(ARRAY['closed', 'expired', 'quiet']) AS ended (state)
    CROSS JOIN LATERAL (
        SELECT q.ctid
        FROM sync.order_queue AS q
        WHERE q.state = ended.state
          AND q.ended_at < now() - $1::interval
        ORDER BY q.ended_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS old
    LIMIT $2
))
