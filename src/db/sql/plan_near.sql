-- plan_near
-- Counts live orders that are overdue, and those that the next run may reach too late. Reads a few ranges of the claim
-- index, one per priority, and only rows whose deadline is near. $1 readable window, $2 start of the next run, $3 start
-- of the run after it, $4 latest end of the next run, $5 when an order read now is due again, $6 the latest of $3, $4
-- and $5 minus the window.
WITH RECURSIVE ranks AS (
    (
        SELECT -priority::integer AS rank
        FROM sync.order_queue
        WHERE state IN ('pending', 'open')
        ORDER BY -priority::integer
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT -priority::integer
        FROM sync.order_queue
        WHERE state IN ('pending', 'open') AND -priority::integer > r.rank
        ORDER BY -priority::integer
        LIMIT 1
    )
    FROM ranks AS r
    WHERE r.rank IS NOT NULL
),
near AS (
    SELECT q.deadline_base, q.last_fetched_at, q.expired_at, q.due_at
    FROM ranks AS r
    CROSS JOIN LATERAL (
        SELECT deadline_base, last_fetched_at, expired_at, due_at
        FROM sync.order_queue
        WHERE state IN ('pending', 'open')
          AND -priority::integer = r.rank
          AND deadline_base < $6
        -- OFFSET 0 keeps one index range per priority; otherwise the planner could join them.
        OFFSET 0
    ) AS q
    UNION ALL
    -- Orders that wait longer, for instance after many failures.
    SELECT deadline_base, last_fetched_at, expired_at, due_at
    FROM sync.order_queue
    WHERE ended_at IS NULL
      AND due_at > $5
      AND deadline_base >= $6
),
dated AS (
    SELECT due_at, sync.within_calendar(greatest(deadline_base, last_fetched_at)) + $1 AS deadline
    FROM near
    WHERE (sync.within_calendar(expired_at) - sync.within_calendar(last_fetched_at) <= $1) IS NOT TRUE
)
SELECT
    count(*) FILTER (WHERE d.deadline < now()) AS "overdue!",
    count(*) FILTER (WHERE d.deadline >= now() AND d.due_at <= $2 AND d.deadline < $4) AS "perhaps!",
    count(*) FILTER (WHERE d.deadline >= now() AND d.due_at > $2 AND d.deadline < greatest(d.due_at, $3)) AS "later!"
FROM dated AS d
