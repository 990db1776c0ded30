-- What the storm guard needs to know of earlier runs, besides closed.
ALTER TABLE sync.runs
    ADD COLUMN refused bigint NOT NULL DEFAULT 0,
    ADD COLUMN expired_early bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN sync.runs.refused IS 'Those of dead that the API refused for good';
COMMENT ON COLUMN sync.runs.expired_early IS 'Those of fetched that were expired and empty sooner than possible by what was known of them';
