-- plan_missed_later
-- Returns the first $6 of the orders outside this run whose deadline comes before they can be fetched. $1 readable
-- window, $2 next tick, $3 to $5 position of the last order of a limited run, $7 start of the run.
SELECT order_id, sync.within_calendar(greatest(deadline_base, last_fetched_at)) + $1 AS "deadline!",
    sync.within_calendar(greatest(due_at, $2)) AS "fetched_at!"
FROM sync.order_queue
WHERE state IN ('pending', 'open')
  AND NOT (
      due_at <= $7
      AND ($5::text IS NULL
           OR (-priority::integer, deadline_base, order_id) <= ($3::integer, $4::timestamptz, $5))
  )
  AND sync.within_calendar(greatest(deadline_base, last_fetched_at)) + $1 < greatest(due_at, $2)
  AND (sync.within_calendar(expired_at) - sync.within_calendar(last_fetched_at) <= $1) IS NOT TRUE
ORDER BY deadline_base, order_id
LIMIT $6
