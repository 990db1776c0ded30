-- The pace that an API tolerates: found by one run, known to the next, shared by the workers of the moment.
CREATE TABLE sync.pace (
    api                 text PRIMARY KEY,
    requests_per_second double precision NOT NULL
                        CONSTRAINT pace_is_positive CHECK (requests_per_second > 0 AND requests_per_second < 'Infinity'),
    found_at            timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

COMMENT ON TABLE sync.pace IS 'Request rate that each API was last found to tolerate, all workers together';
COMMENT ON COLUMN sync.pace.api IS 'api.base_url';
COMMENT ON COLUMN sync.pace.requests_per_second IS 'The rate; delete the row to have it searched anew';
COMMENT ON COLUMN sync.pace.found_at IS 'When it was last confirmed';

ALTER TABLE sync.runs
    ADD COLUMN api text,
    ADD COLUMN requests_per_second double precision;

COMMENT ON COLUMN sync.runs.api IS 'api.base_url: running runs with the same one share its pace';
COMMENT ON COLUMN sync.runs.requests_per_second IS 'This worker''s share of the pace at its last sign of life';
