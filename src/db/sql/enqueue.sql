-- enqueue
-- Adds orders, each once. Sorted as settled batches are, so that feeders and runs cannot deadlock. $7 to $13: source,
-- reopen, feed id, and the defaults of the feed (user, kind of ids, banner, priority).
--
-- A known order keeps its values, and missing ones are filled in, because feeders often learn facts later. completed_at
-- may always be corrected. Later lines of the same feed replace its earlier ones (fed_by, fed_facts), but a default
-- never replaces the value of a line. With reopen, a known order is fetched again, whatever its state, with the values
-- of the line or else the defaults.
WITH incoming AS (
    SELECT order_id,
           coalesce(connect_user_id, $10) AS connect_user_id,
           coalesce(ids_internal, $11) AS ids_internal,
           coalesce(retailer_id, $12) AS retailer_id,
           coalesce(priority, $13::smallint, 0) AS priority,
           completed_at
    FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::smallint[], $6::timestamptz[])
         AS t (order_id, connect_user_id, ids_internal, retailer_id, priority, completed_at)
),
written AS (
    INSERT INTO sync.order_queue AS q
        (order_id, connect_user_id, ids_internal, retailer_id, priority, completed_at, source, fed_by, fed_facts)
    SELECT order_id, connect_user_id, ids_internal, retailer_id, priority, completed_at, $7, $9, 15
    FROM incoming AS i
    -- An order in chat.orders that has ended is known even if queue.retention deleted its queue row.
    WHERE $8
       OR NOT EXISTS (SELECT FROM chat.orders AS o WHERE o.order_id = i.order_id AND o.status <> 'open')
       OR EXISTS (SELECT FROM sync.order_queue AS known WHERE known.order_id = i.order_id)
    ORDER BY order_id COLLATE "C"
    ON CONFLICT (order_id) DO UPDATE
    SET connect_user_id = CASE
            WHEN q.fed_by = $9 AND q.fed_facts & 1 <> 0
            THEN coalesce(nullif(excluded.connect_user_id, $10), q.connect_user_id)
            WHEN $8 THEN coalesce(excluded.connect_user_id, q.connect_user_id)
            ELSE coalesce(q.connect_user_id, excluded.connect_user_id)
        END,
        ids_internal = CASE
            WHEN q.fed_by = $9 AND q.fed_facts & 2 <> 0
            THEN coalesce(nullif(excluded.ids_internal, $11), q.ids_internal)
            WHEN $8 THEN coalesce(excluded.ids_internal, q.ids_internal)
            ELSE coalesce(q.ids_internal, excluded.ids_internal)
        END,
        retailer_id = CASE
            WHEN q.fed_by = $9 AND q.fed_facts & 4 <> 0
            THEN coalesce(nullif(excluded.retailer_id, $12), q.retailer_id)
            WHEN $8 THEN coalesce(excluded.retailer_id, q.retailer_id)
            ELSE coalesce(q.retailer_id, excluded.retailer_id)
        END,
        priority = CASE
            WHEN q.fed_by = $9 AND q.fed_facts & 8 <> 0
            THEN coalesce(nullif(excluded.priority, coalesce($13, 0)), q.priority)
            -- Reopened without a priority, it keeps its old one.
            WHEN $8 AND (excluded.priority <> 0 OR $13 IS NOT NULL) THEN excluded.priority
            ELSE q.priority
        END,
        completed_at = coalesce(excluded.completed_at, q.completed_at),
        -- An order that failed for lack of a user becomes due again once it has one.
        (state, due_at, failures, counted_failures) = (
            SELECT
                CASE
                    WHEN NOT ($8 OR (has_its_user AND q.state = 'dead')) THEN q.state
                    WHEN coalesce(q.last_fetched_at, q.last_changed_at) IS NULL THEN 'pending'
                    ELSE 'open'
                END,
                CASE WHEN $8 OR has_its_user THEN now() ELSE q.due_at END,
                CASE WHEN $8 OR has_its_user THEN 0 ELSE q.failures END,
                CASE WHEN $8 OR has_its_user THEN 0 ELSE q.counted_failures END
            FROM (VALUES (
                coalesce(q.last_error_kind = 'no_user', false)
                AND q.connect_user_id IS NULL AND excluded.connect_user_id IS NOT NULL
            )) AS t (has_its_user)
        ),
        fed_by = excluded.fed_by,
        -- Facts that this feed filled in, or may have replaced with reopen.
        fed_facts = CASE WHEN q.fed_by = $9 THEN q.fed_facts ELSE 0 END
            | CASE WHEN $8 THEN 15 ELSE 0 END
            | CASE WHEN q.connect_user_id IS NULL AND excluded.connect_user_id IS NOT NULL THEN 1 ELSE 0 END
            | CASE WHEN q.ids_internal IS NULL AND excluded.ids_internal IS NOT NULL THEN 2 ELSE 0 END
            | CASE WHEN q.retailer_id IS NULL AND excluded.retailer_id IS NOT NULL THEN 4 ELSE 0 END,
        closed_at = CASE WHEN $8 THEN NULL ELSE q.closed_at END,
        held_kind = CASE WHEN $8 THEN NULL ELSE q.held_kind END,
        held_since = CASE WHEN $8 THEN NULL ELSE q.held_since END,
        held_times = CASE WHEN $8 THEN NULL ELSE q.held_times END,
        held_id_space = CASE WHEN $8 THEN NULL ELSE q.held_id_space END,
        -- Without the hash, the next good read writes the status of the order even if the conversation is the same.
        content_hash = CASE WHEN $8 THEN NULL ELSE q.content_hash END,
        -- The current holder fetched with the old facts, so its lease is void.
        lease_id = CASE WHEN $8 THEN NULL ELSE q.lease_id END,
        leased_until = CASE WHEN $8 THEN NULL ELSE q.leased_until END
    WHERE $8
       OR (excluded.completed_at IS NOT NULL AND excluded.completed_at IS DISTINCT FROM q.completed_at)
       OR (excluded.connect_user_id IS NOT NULL AND q.connect_user_id IS NULL)
       OR (excluded.ids_internal IS NOT NULL AND q.ids_internal IS NULL)
       OR (excluded.retailer_id IS NOT NULL AND q.retailer_id IS NULL)
       OR (q.fed_by = $9 AND q.fed_facts & 1 <> 0 AND nullif(excluded.connect_user_id, $10) <> q.connect_user_id)
       OR (q.fed_by = $9 AND q.fed_facts & 2 <> 0 AND nullif(excluded.ids_internal, $11) <> q.ids_internal)
       OR (q.fed_by = $9 AND q.fed_facts & 4 <> 0 AND nullif(excluded.retailer_id, $12) <> q.retailer_id)
       OR (q.fed_by = $9 AND q.fed_facts & 8 <> 0 AND nullif(excluded.priority, coalesce($13, 0)) <> q.priority)
    RETURNING order_id, (xmax = 0) AS is_new
)
SELECT count(*) FILTER (WHERE is_new) AS "added!",
       count(*) FILTER (WHERE NOT is_new) AS "updated!",
       -- Neither known before nor written: a trigger or rule of the database has dropped them.
       (
           SELECT coalesce(array_agg(order_id), '{}')
           FROM incoming AS i
           WHERE NOT EXISTS (SELECT FROM written AS w WHERE w.order_id = i.order_id)
             AND NOT EXISTS (SELECT FROM sync.order_queue AS q WHERE q.order_id = i.order_id)
             AND ($8 OR NOT EXISTS (SELECT FROM chat.orders AS o WHERE o.order_id = i.order_id AND o.status <> 'open'))
       ) AS "dropped!"
FROM written
