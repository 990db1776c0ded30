-- The life of an order in a nutshell: what `chatsync why` tells. In the queue row itself, because the row is written
-- by every attempt anyway: another table would double the writes of a run that finds nothing new.
CREATE TYPE sync.attempt AS (
    asked_at    timestamptz,
    settled_at  timestamptz,
    latency_ms  integer,
    requests    integer,
    http_status smallint,
    outcome     text
);

COMMENT ON TYPE sync.attempt IS 'One attempt at an order: settled_at is the time of the transaction that wrote its rows, so chat rows with the same first_synced_at or updated_at are its work';

ALTER TABLE sync.order_queue
    ADD COLUMN history sync.attempt[] NOT NULL DEFAULT '{}';

COMMENT ON COLUMN sync.order_queue.history IS 'The last attempts, oldest first (at most 8)';
