-- Deletes up to $2 orders that ended longer ago than $1, oldest first in each state. Dead ones stay: they need a
-- person. Rows that somebody has locked are left to the next run.
DELETE FROM sync.order_queue
WHERE ctid = ANY (ARRAY(
    SELECT old.ctid
    -- State by state: otherwise the index would give them in no order, and a plan that reads the whole table, again
    -- for every batch, would look cheaper.
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
