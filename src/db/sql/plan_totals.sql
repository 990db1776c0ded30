-- plan_totals
-- Counts what a run that starts at $6 would do, in one pass over the live orders. Sorts only the users of due orders.
-- $1 readable window, $2 next tick, $3 to $5 position of the last order of a limited run.
WITH live AS (
    SELECT
        state, connect_user_id, held_kind,
        -- A good read restarts the window. Once completeness is proven there is no deadline.
        CASE WHEN (sync.within_calendar(expired_at) - sync.within_calendar(last_fetched_at) <= $1) IS NOT TRUE
            THEN sync.within_calendar(greatest(deadline_base, last_fetched_at)) + $1 END AS deadline,
        leased_until > now() AS is_held,
        greatest(due_at, $2::timestamptz) AS later_at,
        due_at <= $6 AS is_due,
        due_at <= $6
            AND ($5::text IS NULL OR (-priority::integer, deadline_base, order_id) <= ($3::integer, $4::timestamptz, $5))
            AS is_in_run
    FROM sync.order_queue
    WHERE state IN ('pending', 'open')
)
SELECT
    now() AS "now!",
    count(*) FILTER (WHERE is_in_run AND state = 'pending') AS "pending!",
    count(*) FILTER (WHERE is_in_run AND state = 'open') AS "open!",
    count(*) FILTER (WHERE is_in_run AND is_held) AS "held!",
    count(*) FILTER (WHERE is_in_run AND held_kind IS NOT NULL) AS "held_back!",
    count(*) FILTER (WHERE is_in_run AND connect_user_id IS NULL) AS "without_user!",
    count(DISTINCT connect_user_id COLLATE "C") FILTER (WHERE is_in_run) AS "users!",
    count(*) FILTER (WHERE is_due AND NOT is_in_run) AS "left_due!",
    count(*) FILTER (WHERE is_in_run AND deadline < now()) AS "past!",
    min(deadline) FILTER (WHERE is_in_run) AS nearest_deadline,
    count(*) FILTER (WHERE NOT is_in_run AND deadline < later_at) AS "later_missed!",
    count(*) FILTER (WHERE NOT is_in_run AND deadline < now()) AS "later_past!"
FROM live
