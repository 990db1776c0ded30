-- plan_missed
-- Returns the orders of a run whose turn comes after their deadline: how many, and the first $4 of them. Turns follow
-- the claim index. $1 limit, $2 readable window, $3 seconds per order, $5 start.
WITH turns AS (
    SELECT
        order_id, deadline_base, -priority::integer AS rank,
        -- A good read restarts the window. Once completeness is proven there is no deadline.
        CASE WHEN (sync.within_calendar(expired_at) - sync.within_calendar(last_fetched_at) <= $2) IS NOT TRUE
            THEN sync.within_calendar(greatest(deadline_base, last_fetched_at)) + $2 END AS deadline,
        row_number() OVER claim AS turn
    FROM sync.order_queue
    WHERE state IN ('pending', 'open')
      AND due_at <= $5
    WINDOW claim AS (ORDER BY -priority::integer, deadline_base, order_id)
    ORDER BY -priority::integer, deadline_base, order_id
    LIMIT $1
),
timed AS (
    -- At most a century, because the calendar ends.
    SELECT *, $5::timestamptz + least(turn * $3::double precision, 3e9) * interval '1 second' AS turn_at
    FROM turns
),
missed AS (
    SELECT order_id, deadline, turn_at, row_number() OVER (ORDER BY rank, deadline_base, order_id) AS nth
    FROM timed
    WHERE deadline < turn_at
)
SELECT
    count(*) AS "orders!",
    count(*) FILTER (WHERE deadline < now()) AS "past!",
    coalesce(array_agg(order_id ORDER BY nth) FILTER (WHERE nth <= $4), '{}') AS "order_ids!",
    coalesce(array_agg(deadline ORDER BY nth) FILTER (WHERE nth <= $4), '{}') AS "deadlines!",
    coalesce(array_agg(turn_at ORDER BY nth) FILTER (WHERE nth <= $4), '{}') AS "turns!"
FROM missed
