-- claim
-- Claims the next orders after a cursor, in due order. Must be committed before any HTTP request: another worker could
-- otherwise claim the same orders. Skips locked rows. Takes over expired leases; no other statement does. A lease that
-- ends later than any worker would write counts as expired: the clock was set back, or it was written by hand. Half an
-- hour at least, because other workers may have a longer queue.lease.
WITH claimed AS (
    UPDATE sync.order_queue AS q
    SET lease_id = $7,
        leased_until = now() + $8
    -- By ctid: the rows are locked where they are, without a second search.
    WHERE q.ctid = ANY (ARRAY (
        SELECT ctid
        FROM sync.order_queue
        WHERE state IN ('pending', 'open')
          AND due_at <= $1
          -- A new order (due since the epoch) enqueued after the start belongs to the next run. One enqueued in the
          -- future belongs to this run: the clock was set back.
          AND (due_at > 'epoch' OR enqueued_at <= $1 OR enqueued_at > now())
          -- Under the same lease: claimed by an earlier try of this statement whose reply was lost.
          AND (leased_until IS NULL OR leased_until <= now() OR leased_until > now() + greatest(2 * $8::interval, '30 min')
               OR lease_id = $7)
          AND (-priority::integer, deadline_base, order_id) > ($2, coalesce($3::timestamptz, '-infinity'), $4)
          AND ($5::text[] IS NULL OR order_id = ANY ($5))
        ORDER BY -priority::integer, deadline_base, order_id
        LIMIT $6
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING
        order_id, connect_user_id, token_kind, ids_internal, retailer_id, failures, counted_failures,
        last_fetched_at, last_changed_at, expired_at, content_hash, reply_hash, enqueued_at, completed_at, deadline_base, -priority::integer AS rank,
        held_kind, held_since, held_times, held_id_space
)
SELECT
    c.order_id,
    c.connect_user_id,
    c.token_kind,
    c.ids_internal,
    c.retailer_id,
    c.failures,
    c.counted_failures,
    t.last_fetched_at,
    t.last_changed_at,
    t.expired_at,
    c.content_hash,
    c.reply_hash,
    t.enqueued_at AS "enqueued_at!",
    t.completed_at,
    c.held_kind,
    t.held_since,
    c.held_times,
    c.held_id_space,
    t.deadline_base,
    c.rank AS "rank!",
    (c.last_fetched_at, c.last_changed_at, c.expired_at, c.enqueued_at, c.completed_at, c.held_since)
        IS NOT DISTINCT FROM
        (t.last_fetched_at, t.last_changed_at, t.expired_at, t.enqueued_at, t.completed_at, t.held_since)
        AS "is_in_calendar!",
    -- An order that was read before has rows, even if its row in chat.orders was deleted by hand.
    o.order_id IS NOT NULL OR c.last_changed_at IS NOT NULL AS "is_stored!",
    coalesce(o.message_count > 0, false) AS "has_messages!",
    sync.within_calendar(o.last_message_at) AS last_message_at,
    o.coverage AS "coverage?",
    coalesce(o.status = 'closed', false) AS "was_closed!"
FROM claimed AS c
CROSS JOIN LATERAL (
    SELECT
        sync.within_calendar(c.last_fetched_at) AS last_fetched_at,
        sync.within_calendar(c.last_changed_at) AS last_changed_at,
        sync.within_calendar(c.expired_at) AS expired_at,
        sync.within_calendar(c.enqueued_at) AS enqueued_at,
        sync.within_calendar(c.completed_at) AS completed_at,
        sync.within_calendar(c.held_since) AS held_since,
        -- Null: before all times.
        CASE WHEN c.deadline_base > '-infinity' THEN sync.within_calendar(c.deadline_base) END AS deadline_base
) AS t
-- LIMIT forces one lookup by key per order.
LEFT JOIN LATERAL (
    SELECT order_id, status, message_count, last_message_at, coverage FROM chat.orders WHERE order_id = c.order_id LIMIT 1
) AS o ON true
