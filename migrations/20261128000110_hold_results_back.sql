-- What the storm guard does not believe yet stays with its order, which is asked for again: nothing is closed, nothing
-- is lost, and nothing blocks the head of the queue.
ALTER TABLE sync.order_queue
    ADD COLUMN held_kind text COLLATE "C" CONSTRAINT held_kind_is_known
        CHECK (held_kind IN ('closed', 'not_found_uncoded', 'expired', 'refused')),
    ADD COLUMN held_since timestamptz,
    ADD COLUMN held_times integer,
    ADD COLUMN held_id_space text;

COMMENT ON COLUMN sync.order_queue.held_kind IS 'Result that the storm guard holds back: closed (404, code 4000), not_found_uncoded (404 without that code), expired (sooner than possible), refused (for good); null: none. chatsync confirm believes it';
COMMENT ON COLUMN sync.order_queue.held_since IS 'When this result was first seen; believed later, it dates from then';
COMMENT ON COLUMN sync.order_queue.held_times IS 'How often this result was seen in a row: the order is asked for again after 1 h, 6 h, then every 24 h';
COMMENT ON COLUMN sync.order_queue.held_id_space IS 'Server, banner and kind of ids for which it was seen; it says nothing elsewhere';

-- Held orders are few, but their table is not.
CREATE INDEX order_queue_held ON sync.order_queue (held_kind) WHERE held_kind IS NOT NULL;

-- What is known of a server, a banner and a kind of ids, all runs together: one row per hour.
CREATE TABLE sync.evidence (
    id_space       text COLLATE "C",
    hour           timestamptz,
    last_good_at   timestamptz,
    unknown_orders bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (id_space, hour)
);

COMMENT ON TABLE sync.evidence IS 'What the storm guard remembers of a server, a banner and a kind of ids, per hour; rows older than two days are deleted';
COMMENT ON COLUMN sync.evidence.id_space IS 'api.base_url, X-Retailer-Id and X-Treat-Ids-As-Internal as sent';
COMMENT ON COLUMN sync.evidence.hour IS 'Start of the hour';
COMMENT ON COLUMN sync.evidence.last_good_at IS 'When a good reply was last noted: the server, the banner and the kind of ids are right';
COMMENT ON COLUMN sync.evidence.unknown_orders IS 'Orders that were never read and unknown, or refused for good, while there was no good reply';

-- The guard asks no earlier runs any more.
ALTER TABLE sync.runs DROP COLUMN refused, DROP COLUMN expired_early;

COMMENT ON COLUMN sync.runs.claimed IS 'Orders settled by this run: fetched + closed + held + failed + dead';
COMMENT ON COLUMN sync.runs.status IS 'running; succeeded: every order of the run is up to date; partial: some orders failed, are held back, or were left because a session had locked their rows or leased them for long; failed: nothing was answered well, or the run could not proceed; interrupted: stopped by a signal; abandoned: its worker died, as the next run found';
