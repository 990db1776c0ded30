-- plan_last
-- Returns the last order that a run of $1 orders would claim if it starts at $2; no row if fewer are due then.
SELECT -priority::integer AS "rank!", sync.within_calendar(deadline_base) AS "deadline_base!", order_id
FROM sync.order_queue
WHERE state IN ('pending', 'open')
  AND due_at <= $2
ORDER BY -priority::integer, deadline_base, order_id
LIMIT 1 OFFSET $1::bigint - 1
