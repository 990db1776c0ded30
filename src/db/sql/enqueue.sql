-- enqueue
-- Adds orders, each once. Sorted as settled batches are, so that feeders and runs cannot deadlock. $7 to $13: source,
-- reopen, feed id, and the defaults of the feed (user, kind of ids, banner, priority).
--
-- A known order keeps its values, and missing ones are filled in, because feeders often learn facts later. completed_at
-- may always be corrected. Later lines of the same feed replace its earlier ones (fed_by, fed_facts), but a default
-- never replaces the value of a line. With reopen, a known order takes the values of the line or else the defaults.
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
        fed_by = excluded.fed_by,
        -- Facts that this feed filled in, or may have replaced with reopen.
        fed_facts = CASE WHEN q.fed_by = $9 THEN q.fed_facts ELSE 0 END
            | CASE WHEN $8 THEN 15 ELSE 0 END
            | CASE WHEN q.connect_user_id IS NULL AND excluded.connect_user_id IS NOT NULL THEN 1 ELSE 0 END
            | CASE WHEN q.ids_internal IS NULL AND excluded.ids_internal IS NOT NULL THEN 2 ELSE 0 END
            | CASE WHEN q.retailer_id IS NULL AND excluded.retailer_id IS NOT NULL THEN 4 ELSE 0 END
    WHERE $8
       OR (excluded.completed_at IS NOT NULL AND excluded.completed_at IS DISTINCT FROM q.completed_at)
       OR (excluded.connect_user_id IS NOT NULL AND q.connect_user_id IS NULL)
       OR (excluded.ids_internal IS NOT NULL AND q.ids_internal IS NULL)
       OR (excluded.retailer_id IS NOT NULL AND q.retailer_id IS NULL)
       OR (q.fed_by = $9 AND q.fed_facts & 1 <> 0 AND nullif(excluded.connect_user_id, $10) <> q.connect_user_id)
       OR (q.fed_by = $9 AND q.fed_facts & 2 <> 0 AND nullif(excluded.ids_internal, $11) <> q.ids_internal)
       OR (q.fed_by = $9 AND q.fed_facts & 4 <> 0 AND nullif(excluded.retailer_id, $12) <> q.retailer_id)
       OR (q.fed_by = $9 AND q.fed_facts & 8 <> 0 AND nullif(excluded.priority, coalesce($13, 0)) <> q.priority)
    RETURNING order_id,
              (xmax = 0) AS is_new,
              -- An order that failed for lack of a user is due again once it has one.
              $8 OR (last_error_kind IS NOT DISTINCT FROM 'no_user' AND connect_user_id IS NOT NULL) AS is_put_back
)
SELECT count(*) FILTER (WHERE is_new) AS "added!",
       count(*) FILTER (WHERE NOT is_new) AS "updated!",
       -- For retry.sql, which knows how.
       coalesce(array_agg(order_id) FILTER (WHERE is_put_back AND NOT is_new), '{}') AS "put_back!",
       -- Then not_taken.sql finds out what they have dropped or changed.
       EXISTS (
           SELECT FROM pg_trigger WHERE tgrelid = 'sync.order_queue'::regclass AND NOT tgisinternal
       ) AS "has_triggers!"
FROM written
