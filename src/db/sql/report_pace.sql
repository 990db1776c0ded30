-- report_pace
-- Reports the pace of a run and returns that of all. $1 run_id, $2 api, $3 own rate, $4 rate that the run was served or
-- null, $5 limit that it found or null, $6 number of workers that it shares with, $7 initial rate.
WITH me AS (
    UPDATE sync.runs SET requests_per_second = $3, served_per_second = $4 WHERE run_id = $1 RETURNING run_id
),
others AS (
    SELECT count(*) AS others, coalesce(sum(served_per_second), 0) AS served FROM sync.runs
    WHERE api = $2 AND status = 'running' AND alive_until > now() AND run_id <> $1
),
known AS (
    -- From `me`, so that all workers lock their run first and the pace second.
    SELECT known.requests_per_second, known.is_limit FROM me CROSS JOIN sync.known_pace AS known
    WHERE known.api = $2
    FOR UPDATE OF known
),
finding AS (
    -- Each finding moves the common pace by the share of its worker: a mean of the latest findings. Without a 429
    -- nothing lowers it, and the served rate confirms it.
    SELECT
        CASE
            WHEN $5::double precision IS NULL THEN greatest(known.requests_per_second, $4 + others.served)
            ELSE coalesce(known.requests_per_second + ($5 - known.requests_per_second) / $6::bigint, $5)
        END AS requests_per_second,
        $5 IS NOT NULL OR coalesce(known.is_limit, false) AS is_limit
    FROM others LEFT JOIN known ON true
    WHERE others.others + 1 = $6
      AND ($5 IS NOT NULL OR $4 + others.served > coalesce(known.requests_per_second * 0.9, 0))
),
kept AS (
    INSERT INTO sync.pace (api, requests_per_second, is_limit)
    SELECT $2, requests_per_second, is_limit FROM finding
    ON CONFLICT (api) DO UPDATE
    SET requests_per_second = EXCLUDED.requests_per_second, is_limit = EXCLUDED.is_limit, found_at = now()
    RETURNING requests_per_second, is_limit
),
total AS (
    SELECT * FROM kept
    UNION ALL
    SELECT * FROM known WHERE NOT EXISTS (SELECT FROM kept)
)
SELECT others AS "others!", total.requests_per_second AS "total?", total.is_limit AS "is_limit?"
FROM others LEFT JOIN total ON total.is_limit OR total.requests_per_second > $7
