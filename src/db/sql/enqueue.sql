-- Adds orders; a known one keeps what it has, but facts that were missing are filled in, as feeders often learn later
-- when an order was completed. With reopen ($8) a known order is fetched again, whatever its state, with what the line
-- says. Sorted as a batch is that is settled, so that neither two feeders with the same orders nor a feeder and a run
-- deadlock.
WITH incoming AS (
    SELECT DISTINCT ON (order_id) *
    FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::smallint[], $6::timestamptz[])
         WITH ORDINALITY AS t (order_id, connect_user_id, ids_internal, retailer_id, priority, completed_at, line)
    ORDER BY order_id, line
),
written AS (
    INSERT INTO sync.order_queue AS q
        (order_id, connect_user_id, ids_internal, retailer_id, priority, completed_at, source)
    SELECT order_id, connect_user_id, ids_internal, retailer_id, priority, completed_at, $7
    FROM incoming AS i
    -- An order that has ended is known even if its row was deleted since (queue.retention).
    WHERE $8
       OR NOT EXISTS (SELECT FROM chat.orders AS o WHERE o.order_id = i.order_id AND o.status <> 'open')
       OR EXISTS (SELECT FROM sync.order_queue AS known WHERE known.order_id = i.order_id)
    ORDER BY order_id COLLATE "C"
    ON CONFLICT (order_id) DO UPDATE
    SET connect_user_id = CASE WHEN $8 THEN coalesce(excluded.connect_user_id, q.connect_user_id)
                               ELSE coalesce(q.connect_user_id, excluded.connect_user_id) END,
        ids_internal    = CASE WHEN $8 THEN coalesce(excluded.ids_internal, q.ids_internal) ELSE q.ids_internal END,
        retailer_id     = CASE WHEN $8 THEN coalesce(excluded.retailer_id, q.retailer_id) ELSE q.retailer_id END,
        priority        = CASE WHEN $8 THEN excluded.priority ELSE q.priority END,
        completed_at    = coalesce(q.completed_at, excluded.completed_at),
        state           = CASE WHEN NOT $8 THEN q.state WHEN coalesce(q.last_fetched_at, q.last_changed_at) IS NULL THEN 'pending' ELSE 'open' END,
        due_at          = CASE WHEN $8 THEN now() ELSE q.due_at END,
        closed_at       = CASE WHEN $8 THEN NULL ELSE q.closed_at END,
        held_kind       = CASE WHEN $8 THEN NULL ELSE q.held_kind END,
        held_since      = CASE WHEN $8 THEN NULL ELSE q.held_since END,
        held_times      = CASE WHEN $8 THEN NULL ELSE q.held_times END,
        held_id_space   = CASE WHEN $8 THEN NULL ELSE q.held_id_space END,
        attempts        = CASE WHEN $8 THEN 0 ELSE q.attempts END,
        strikes         = CASE WHEN $8 THEN 0 ELSE q.strikes END,
        -- The next good read then writes the order's status again even if the conversation is the same.
        content_hash    = CASE WHEN $8 THEN NULL ELSE q.content_hash END,
        -- Whoever holds it now asked for the old facts: its lease is void.
        lease_id        = CASE WHEN $8 THEN NULL ELSE q.lease_id END,
        leased_until    = CASE WHEN $8 THEN NULL ELSE q.leased_until END
    WHERE $8
       OR (q.completed_at IS NULL AND excluded.completed_at IS NOT NULL)
       OR (q.connect_user_id IS NULL AND excluded.connect_user_id IS NOT NULL)
    RETURNING (xmax = 0) AS is_new
)
SELECT count(*) FILTER (WHERE is_new) AS "added!",
       count(*) FILTER (WHERE NOT is_new) AS "updated!"
FROM written
