-- idle_runs
-- Groups the runs in which nothing was due: how many between two of the latest $1 other runs, and when. `newer` counts
-- the other runs after them.
WITH busy AS (
    SELECT started_at
    FROM sync.runs
    WHERE NOT (status = 'succeeded' AND claimed = 0)
    ORDER BY started_at DESC
    LIMIT $1
)
SELECT
    n.newer AS "newer!",
    count(*) AS "runs!",
    sync.within_calendar(min(r.started_at)) AS "first_started_at!",
    sync.within_calendar(max(r.started_at)) AS "last_started_at!"
FROM sync.runs AS r
CROSS JOIN LATERAL (SELECT count(*) AS newer FROM busy AS b WHERE b.started_at > r.started_at) AS n
WHERE r.status = 'succeeded'
  AND r.claimed = 0
  -- Leave out what is older than the oldest run shown.
  AND r.started_at >= coalesce((SELECT min(started_at) FROM busy HAVING count(*) = $1), '-infinity')
GROUP BY n.newer
ORDER BY n.newer
