-- due
-- Looks at up to $3 of the orders that are left of a run: how many there are, how many are free, a position before all
-- of them in due order, and the seconds until the first lease ends. $4: length of a lease; a lease that ends after
-- twice that time does not count (half an hour at least: other workers may have longer leases).
SELECT
    count(*) AS "orders!",
    count(*) FILTER (
        WHERE leased_until IS NULL OR leased_until <= now() OR leased_until > now() + greatest(2 * $4::interval, '30 min')
    ) AS "free!",
    min(rank) AS rank,
    -- Null: before all times.
    CASE WHEN min(deadline_base) > '-infinity' THEN sync.within_calendar(min(deadline_base)) END AS deadline_base,
    extract(epoch FROM min(leased_until) FILTER (
        WHERE leased_until > now() AND leased_until <= now() + greatest(2 * $4::interval, '30 min')
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
