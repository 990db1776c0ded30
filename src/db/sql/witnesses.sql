-- witnesses
-- Returns orders that are fetched only to learn something about an id space or a user.
--
-- With $5 (the readable window): orders of the id space ($1 banner, $2 kind of ids; $3 and $4 are the configured ones)
-- that are known to be readable, those of the users $7 first.
--
-- Without $5: orders other than $6. First those of users other than $7, then well read ones, then those that would be
-- claimed last, because bad orders often stand together at the head.
--
-- Looks at up to $8 live orders from each end: those due last, which were most likely settled well last, and those that
-- would be claimed last.
WITH looked_at AS (
    (SELECT order_id FROM sync.order_queue WHERE ended_at IS NULL ORDER BY due_at DESC LIMIT $8)
    UNION
    (
        SELECT order_id FROM sync.order_queue
        WHERE state IN ('pending', 'open')
        ORDER BY -priority::integer DESC, deadline_base DESC, order_id DESC
        LIMIT $8
    )
)
SELECT
    q.order_id, q.connect_user_id, q.token_kind, q.ids_internal, q.retailer_id,
    sync.within_calendar(q.enqueued_at) AS "enqueued_at!"
FROM looked_at
JOIN sync.order_queue AS q USING (order_id)
WHERE q.held_kind IS NULL
  AND CASE
      WHEN $5::interval IS NULL THEN q.order_id <> ALL ($6::text[])
      ELSE q.state = 'open'
          -- Doubtful orders are leased at this moment; skip them.
          AND (q.leased_until IS NULL OR q.leased_until <= now())
          AND q.last_fetched_at > now() - $5
          AND (q.completed_at IS NULL OR q.completed_at > now() - $5)
          AND coalesce(q.retailer_id, $3) = $1::text
          AND coalesce(q.ids_internal, $4) = $2::boolean
  END
ORDER BY
    -- Readable orders of these users first, or other orders of other users first.
    coalesce(q.connect_user_id = ANY ($7::text[]), false) = ($5 IS NULL),
    q.last_fetched_at DESC NULLS LAST,
    -q.priority::integer DESC, q.deadline_base DESC, q.order_id DESC
LIMIT $9
