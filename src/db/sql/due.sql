-- What is left of a run, by a look at up to $3 of its orders: how many there are and how many nobody holds, a place in
-- due order before all of them, and the seconds until the first lease ends, if any is held. $4: the length of a lease; one
-- that ends after twice that time is none.
SELECT
    count(*) AS "orders!",
    count(*) FILTER (
        WHERE leased_until IS NULL OR leased_until <= now() OR leased_until > now() + 2 * $4::interval
    ) AS "free!",
    min(rank) AS rank,
    -- None: before all times.
    CASE WHEN min(deadline_base) > '-infinity' THEN sync.within_calendar(min(deadline_base)) END AS deadline_base,
    extract(epoch FROM min(leased_until) FILTER (
        WHERE leased_until > now() AND leased_until <= now() + 2 * $4::interval
    ) - now())::float8 AS free_in
FROM (
    SELECT -priority::integer AS rank, deadline_base, leased_until
    FROM sync.order_queue
    WHERE ended_at IS NULL
      AND due_at <= $1
      AND (due_at > 'epoch' OR enqueued_at <= $1 OR enqueued_at > now())
      AND ($2::text[] IS NULL OR order_id = ANY ($2))
    LIMIT $3
) AS due
