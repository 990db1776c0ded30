-- Orders that may be asked to learn something about an id space or a user. With $5 (the readable window) those of the id
-- space ($1 banner, $2 kind of ids; $3 and $4 are the configured ones) that are known to be readable; without it others
-- than $6, first those of other users than $7, then those that were read well. Only $8 live orders are looked at, those
-- that are due last: they were settled last, and most likely well.
SELECT order_id, connect_user_id, token_kind, ids_internal, retailer_id, enqueued_at
FROM (
    SELECT
        order_id, connect_user_id, token_kind, ids_internal, retailer_id, enqueued_at, state,
        last_fetched_at, completed_at, held_kind
    FROM sync.order_queue
    WHERE ended_at IS NULL
    ORDER BY due_at DESC
    LIMIT $8
) AS latest
WHERE held_kind IS NULL
  AND CASE
      WHEN $5::interval IS NULL THEN order_id <> ALL ($6::text[])
      ELSE state = 'open'
          AND last_fetched_at > now() - $5
          AND (completed_at IS NULL OR completed_at > now() - $5)
          AND coalesce(retailer_id, $3) = $1::text
          AND coalesce(ids_internal, $4) = $2::boolean
  END
ORDER BY
    $5 IS NULL AND coalesce(connect_user_id = ANY ($7::text[]), cardinality($7) = 0),
    last_fetched_at DESC NULLS LAST
LIMIT $9
