-- newest_excess_reject
-- Returns the newest reject that does not fit into $1 bytes together with the newer ones; no row if all fit. Reads only
-- the index, from its end, and stops there.
SELECT reject_id AS "reject_id!"
FROM (
    SELECT reject_id, sum(kept_bytes) OVER (ORDER BY reject_id DESC ROWS UNBOUNDED PRECEDING) AS bytes
    FROM sync.rejects
) AS summed
WHERE bytes > $1
ORDER BY reject_id DESC
LIMIT 1
