-- The pace is kept also if no limit was met, and believed for a day.
ALTER TABLE sync.pace ADD COLUMN is_limit boolean NOT NULL DEFAULT true;

COMMENT ON TABLE sync.pace IS 'Request rate that each API was last found to tolerate, all workers together; sync.known_pace says what is left of it';
COMMENT ON COLUMN sync.pace.found_at IS 'When a run last met the limit or was served about this rate';
COMMENT ON COLUMN sync.pace.is_limit IS 'Whether the API refused more (429); otherwise it served this rate, and perhaps would more';

ALTER TABLE sync.runs ADD COLUMN served_per_second double precision;

COMMENT ON COLUMN sync.runs.served_per_second IS 'Requests per second that this worker was served for five seconds, at its last sign of life; null: it has not asked for so long';

-- The one place that says how the pace ages.
CREATE VIEW sync.known_pace AS
SELECT
    api,
    requests_per_second * 0.5 ^ days AS requests_per_second,
    found_at,
    is_limit AND days = 0 AS is_limit
FROM sync.pace
-- Not below 0: a clock that was set back must not raise the pace. Not above 60: a double has an end.
CROSS JOIN LATERAL (
    SELECT least(greatest(floor(extract(epoch FROM now() - found_at)::double precision / 86400), 0), 60) AS days
) AS age;

COMMENT ON VIEW sync.known_pace IS 'What sync.pace says today: every 24 hours without confirmation halve a pace';
COMMENT ON COLUMN sync.known_pace.api IS 'api.base_url';
COMMENT ON COLUMN sync.known_pace.requests_per_second IS 'The rate that the next run starts with, unless pace.initial_requests_per_second is higher and this is no limit';
COMMENT ON COLUMN sync.known_pace.found_at IS 'When a run last met the limit or was served about this rate';
COMMENT ON COLUMN sync.known_pace.is_limit IS 'Whether it is a limit that was met in the last 24 hours; otherwise a run goes on searching from here';
