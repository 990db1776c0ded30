-- count_due
-- Counts the orders of a run, leased ones included.
SELECT count(*) AS "count!"
FROM sync.order_queue
WHERE ended_at IS NULL
  AND due_at <= $1
  AND (due_at > 'epoch' OR enqueued_at <= $1 OR enqueued_at > now())
  AND ($2::text[] IS NULL OR order_id = ANY ($2))
