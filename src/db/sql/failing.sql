-- failing
-- Groups failing and dead orders by kind, with a few examples of each.
SELECT
    kind AS "kind!",
    count(*) FILTER (WHERE state <> 'dead') AS "failing!",
    count(*) FILTER (WHERE state = 'dead') AS "dead!",
    array_agg(order_id ORDER BY nth) FILTER (WHERE nth <= 3) AS "examples!"
FROM (
    SELECT kind, state, order_id, row_number() OVER (PARTITION BY kind ORDER BY state = 'dead', order_id) AS nth
    FROM (
        SELECT last_error_kind AS kind, state, order_id
        FROM sync.order_queue
        -- Held orders are counted separately.
        WHERE state IN ('pending', 'open') AND last_error_kind IS NOT NULL AND held_kind IS NULL
        UNION ALL
        SELECT coalesce(last_error_kind, 'unknown'), state, order_id
        FROM sync.order_queue
        WHERE state = 'dead' AND ended_at IS NOT NULL
    ) AS troubled
) AS numbered
GROUP BY kind
ORDER BY count(*) DESC, kind
