-- Seconds until the first of the orders of a run that are left comes free; null if none is left.
SELECT extract(epoch FROM min(coalesce(leased_until, now())) - now())::float8
FROM sync.order_queue
WHERE state IN ('pending', 'open')
  AND due_at <= $1
  AND ($2::text[] IS NULL OR order_id = ANY ($2))
