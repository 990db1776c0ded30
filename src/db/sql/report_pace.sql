-- $1 run_id, $2 api, $3 own rate, $4 what the run found or null, $5 number of workers it shares with
WITH me AS (
    UPDATE sync.runs SET requests_per_second = $3 WHERE run_id = $1 RETURNING run_id
),
others AS (
    SELECT count(*) AS others FROM sync.runs
    WHERE api = $2 AND status = 'running' AND alive_until > now() AND run_id <> $1
),
kept AS (
    -- Each worker's finding moves the common one by the worker's part: a mean of the latest findings.
    INSERT INTO sync.pace AS pace (api, requests_per_second)
    -- From `me`, so that all workers lock their run first and the pace second.
    SELECT $2, $4 FROM me CROSS JOIN others
    WHERE $4::double precision IS NOT NULL AND others.others + 1 = $5
    ON CONFLICT (api) DO UPDATE
    SET requests_per_second
            = pace.requests_per_second + (EXCLUDED.requests_per_second - pace.requests_per_second) / $5,
        found_at = now()
    RETURNING requests_per_second
)
SELECT
    others AS "others!",
    coalesce(
        (SELECT requests_per_second FROM kept),
        (SELECT requests_per_second FROM sync.pace WHERE api = $2)
    ) AS total
FROM others
