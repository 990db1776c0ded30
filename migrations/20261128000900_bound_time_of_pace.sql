-- A time that was set by hand may be infinite: PostgreSQL 15 and 16 refuse to subtract it, and the program cannot read it.
CREATE OR REPLACE VIEW sync.known_pace AS
SELECT
    api,
    requests_per_second * 0.5 ^ days AS requests_per_second,
    sync.within_calendar(found_at) AS found_at,
    is_limit AND days = 0 AS is_limit
FROM sync.pace
-- Not below 0: a clock that was set back must not raise the pace. Not above 60: a double has an end.
CROSS JOIN LATERAL (
    SELECT least(greatest(floor(
        extract(epoch FROM now() - sync.within_calendar(found_at))::double precision / 86400
    ), 0), 60) AS days
) AS age;
