-- The newest reject that does not fit into $1 bytes together with those after it; none if all fit. Reads the index only,
-- from its end, and stops there.
SELECT reject_id AS "reject_id!"
FROM (
    SELECT reject_id, sum(kept_bytes) OVER (ORDER BY reject_id DESC ROWS UNBOUNDED PRECEDING) AS bytes
    FROM sync.rejects
) AS summed
WHERE bytes > $1
ORDER BY reject_id DESC
LIMIT 1
