-- PostgreSQL's calendar is longer than the program's, and a feeder may write any of its times, or infinity: reading one
-- must not stop the run that reads all others. In SQL, because sums of such times end beyond PostgreSQL's calendar as well.
CREATE FUNCTION sync.within_calendar(at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN at IS NOT NULL
    THEN least(greatest(at, '4714-11-24 00:00:00+00 BC'::timestamptz), '262000-01-01 00:00:00+00'::timestamptz)
END;

COMMENT ON FUNCTION sync.within_calendar IS 'The time, or the nearest one that the program can reckon with: none after the year 262000, none infinite';
