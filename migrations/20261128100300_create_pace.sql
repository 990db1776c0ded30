-- What runs know of an API from the runs before them: its request rate, and whether its answers can be trusted.
CREATE TABLE sync.pace (
    api                 text COLLATE "C" PRIMARY KEY,
    requests_per_second double precision NOT NULL
                        CONSTRAINT pace_is_positive
                            CHECK (requests_per_second > 0 AND requests_per_second < 'Infinity'),
    found_at            timestamptz NOT NULL DEFAULT now(),
    is_limit            boolean NOT NULL DEFAULT true
) WITH (fillfactor = 50);

COMMENT ON TABLE sync.pace IS 'Request rate that each API was last found to tolerate, all workers together; sync.known_pace says what it is worth today';
COMMENT ON COLUMN sync.pace.api IS 'api.base_url';
COMMENT ON COLUMN sync.pace.requests_per_second IS 'The rate; delete the row to search for it again';
COMMENT ON COLUMN sync.pace.found_at IS 'When a run last met the limit or was served at about this rate';
COMMENT ON COLUMN sync.pace.is_limit IS 'True: the API refused more (429). False: it served this rate, and perhaps would serve more';

-- The one place that says how the pace ages.
CREATE VIEW sync.known_pace AS
SELECT
    api,
    requests_per_second * 0.5 ^ days AS requests_per_second,
    sync.within_calendar(found_at) AS found_at,
    is_limit AND days = 0 AS is_limit
FROM sync.pace
-- Not below 0: a clock that was set back must not raise the pace. Not above 60: a double has an end. A time that was set by
-- hand may be infinite, which PostgreSQL 15 and 16 cannot subtract.
CROSS JOIN LATERAL (
    SELECT least(greatest(floor(
        extract(epoch FROM now() - sync.within_calendar(found_at))::double precision / 86400
    ), 0), 60) AS days
) AS age;

COMMENT ON VIEW sync.known_pace IS 'What sync.pace is worth today: every 24 hours without confirmation halve a pace';
COMMENT ON COLUMN sync.known_pace.api IS 'api.base_url';
COMMENT ON COLUMN sync.known_pace.requests_per_second IS 'The rate at which the next run starts, unless pace.initial_requests_per_second is higher and this is no limit';
COMMENT ON COLUMN sync.known_pace.found_at IS 'When a run last met the limit or was served at about this rate';
COMMENT ON COLUMN sync.known_pace.is_limit IS 'Whether it is a limit that was met in the last 24 hours; otherwise a run searches on from here';

CREATE TABLE sync.evidence (
    id_space       text COLLATE "C",
    hour           timestamptz,
    last_good_at   timestamptz,
    unknown_orders bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (id_space, hour)
);

COMMENT ON TABLE sync.evidence IS 'What the storm guard remembers per hour of a server, a banner and a kind of ids; rows older than two days are deleted';
COMMENT ON COLUMN sync.evidence.id_space IS 'api.base_url, X-Retailer-Id and X-Treat-Ids-As-Internal as sent';
COMMENT ON COLUMN sync.evidence.hour IS 'Start of the hour';
COMMENT ON COLUMN sync.evidence.last_good_at IS 'When a good reply was last noted: server, banner and kind of ids are right';
COMMENT ON COLUMN sync.evidence.unknown_orders IS 'Orders that were never read and that the API did not know, or refused for good, without a good reply in between';
