-- drop_rejects
-- Drops rejects among the $3 oldest: those up to $1, which no longer fit, and those older than $2. Counts them by
-- reason. Locks the dropped rows and the counts until the transaction ends. Skips locked rows.
WITH dropped AS (
    DELETE FROM sync.rejects
    WHERE ctid = ANY (ARRAY(
        SELECT ctid
        FROM sync.rejects
        WHERE ctid = ANY (ARRAY(
            SELECT oldest.ctid
            -- Ids rise with time, so no index on times is needed.
            FROM (SELECT ctid, reject_id, received_at FROM sync.rejects ORDER BY reject_id LIMIT $3) AS oldest
            WHERE oldest.reject_id <= $1 OR oldest.received_at < now() - $2::interval
        ))
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING reject_id, kept_bytes
),
counted AS (
    SELECT CASE WHEN reject_id <= $1 THEN 'max_bytes' ELSE 'keep' END AS reason,
           count(*) AS rejects,
           sum(kept_bytes) AS kept_bytes
    FROM dropped
    GROUP BY 1
),
noted AS (
    INSERT INTO sync.rejects_dropped AS d (reason, rejects, kept_bytes, last_dropped_at)
    SELECT reason, rejects, kept_bytes, now() FROM counted
    -- Sorted as in every worker, so that two of them cannot deadlock.
    ORDER BY reason
    ON CONFLICT (reason) DO UPDATE
    SET rejects = d.rejects + excluded.rejects,
        kept_bytes = d.kept_bytes + excluded.kept_bytes,
        last_dropped_at = excluded.last_dropped_at
)
SELECT coalesce(sum(rejects), 0)::bigint AS "rejects!" FROM counted
