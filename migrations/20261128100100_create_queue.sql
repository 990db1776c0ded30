-- Schema sync belongs to the worker. Analysts read schema chat. `db::migrate` creates both, unless a DBA has; their owner
-- may be another role, and only it may comment on them.
DO $$
BEGIN
    COMMENT ON SCHEMA sync IS 'chatsync''s own tables: the work queue, its runs, and replies that could not be decoded';
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END $$;

-- PostgreSQL's calendar is longer than the program's, and a feeder may write any of its times, or infinity. One such row
-- must not stop the run that reads all others. A function in SQL, because sums of such times exceed PostgreSQL's calendar.
CREATE FUNCTION sync.within_calendar(at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN at IS NOT NULL
    THEN least(greatest(at, '4714-11-24 00:00:00+00 BC'::timestamptz), '262000-01-01 00:00:00+00'::timestamptz)
END;

COMMENT ON FUNCTION sync.within_calendar IS 'The time, or the nearest one that the program can represent: finite, and not after the year 262000';

CREATE TYPE sync.attempt AS (
    asked_at    timestamptz,
    settled_at  timestamptz,
    latency_ms  integer,
    requests    integer,
    http_status smallint,
    outcome     text
);

COMMENT ON TYPE sync.attempt IS 'One attempt at an order. settled_at is the time of the transaction that wrote its rows: chat rows with the same first_synced_at or updated_at were written by it';

-- Keys are compared byte by byte, whatever the language of the database: faster, and a new version of the system's
-- libraries cannot corrupt their indexes.
CREATE TABLE sync.order_queue (
    order_id         text COLLATE "C" PRIMARY KEY
                     CONSTRAINT order_id_fits_a_path_segment CHECK (
                         octet_length(order_id) BETWEEN 1 AND 512
                         AND order_id NOT IN ('.', '..')
                         AND order_id !~ '[\x01-\x1f\x7f]'
                     ),
    connect_user_id  text
                     CONSTRAINT connect_user_id_is_not_empty CHECK (connect_user_id <> ''),
    ids_internal     boolean,
    retailer_id      text
                     CONSTRAINT retailer_id_fits_a_header CHECK (retailer_id !~ '[^\x20-\x7e]'),
    token_kind       text
                     CONSTRAINT token_kind_is_known CHECK (token_kind IN ('user', 'client')),
    state            text NOT NULL DEFAULT 'pending'
                     CONSTRAINT state_is_known CHECK (state IN ('pending', 'open', 'closed', 'expired', 'quiet', 'dead')),
    priority         smallint NOT NULL DEFAULT 0,
    -- A time that has passed by every clock. With now(), orders enqueued just before the server's clock was set back would
    -- wait until it has caught up.
    due_at           timestamptz NOT NULL DEFAULT 'epoch'
                     CONSTRAINT due_at_is_finite CHECK (isfinite(due_at)),
    failures         integer NOT NULL DEFAULT 0,
    counted_failures integer NOT NULL DEFAULT 0,
    lease_id         uuid,
    leased_until     timestamptz
                     CONSTRAINT leased_until_is_finite CHECK (isfinite(leased_until)),
    last_error_kind  text,
    last_error       text,
    last_fetched_at  timestamptz,
    last_changed_at  timestamptz,
    content_hash     bytea,
    reply_hash       bytea,
    completed_at     timestamptz
                     CONSTRAINT completed_at_is_finite CHECK (isfinite(completed_at)),
    expired_at       timestamptz,
    closed_at        timestamptz,
    held_kind        text COLLATE "C"
                     CONSTRAINT held_kind_is_known
                         CHECK (held_kind IN ('closed', 'not_found_uncoded', 'expired', 'refused')),
    held_since       timestamptz,
    held_times       integer,
    held_id_space    text,
    enqueued_at      timestamptz NOT NULL DEFAULT now()
                     CONSTRAINT enqueued_at_is_finite CHECK (isfinite(enqueued_at)),
    source           text,
    fed_by           uuid,
    fed_facts        smallint NOT NULL DEFAULT 0,
    -- In this row, which every attempt writes anyway: a table for attempts would double the writes of a run without changes.
    history          sync.attempt[] NOT NULL DEFAULT '{}',
    deadline_base    timestamptz NOT NULL
                     GENERATED ALWAYS AS (coalesce(completed_at, last_fetched_at, enqueued_at)) STORED,
    ended_at         timestamptz GENERATED ALWAYS AS (
                         CASE
                             WHEN state IN ('pending', 'open') THEN NULL
                             WHEN due_at = 'epoch' THEN enqueued_at
                             ELSE due_at
                         END
                     ) STORED
) WITH (
    -- Claims and lease renewals update rows in place, which needs free space on the same page. Vacuum by a small share of
    -- the table, because rows of ended orders only add to its size.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- Live orders in the order of claiming. It contains no column that a claim or a lease renewal changes, so these updates
-- stay in place. With due_at in it, a claim skips orders that are not due without reading their rows.
CREATE INDEX order_queue_claim ON sync.order_queue ((-priority::integer), deadline_base, order_id, due_at)
    WHERE state IN ('pending', 'open');

-- Answers what is due among millions of live orders that are not. The predicate differs from that of order_queue_claim on
-- purpose: the planner does not know that both are the same, so it cannot use this index for a claim and sort all due
-- orders, again for each claim.
CREATE INDEX order_queue_due ON sync.order_queue (due_at) WHERE ended_at IS NULL;

-- Ended orders: for retention, retry and status.
CREATE INDEX order_queue_ended ON sync.order_queue (state, ended_at) WHERE ended_at IS NOT NULL;

-- Held orders are few, but their table is large.
CREATE INDEX order_queue_held ON sync.order_queue (held_kind) WHERE held_kind IS NOT NULL;

COMMENT ON TABLE sync.order_queue IS 'Work queue: one row per order. Feed it with INSERT INTO sync.order_queue (order_id, connect_user_id) VALUES (…) ON CONFLICT DO NOTHING';
COMMENT ON COLUMN sync.order_queue.order_id IS 'Id of the order exactly as sent in the request path (the retailer''s own id unless ids_internal)';
COMMENT ON COLUMN sync.order_queue.connect_user_id IS 'Connect user whose token may read the order; required with auth.mode = user_assertion, null otherwise';
COMMENT ON COLUMN sync.order_queue.ids_internal IS 'Overrides api.treat_ids_as_internal for this order; null: the setting applies';
COMMENT ON COLUMN sync.order_queue.retailer_id IS 'Overrides api.retailer_id for this order; null: the setting applies';
COMMENT ON COLUMN sync.order_queue.token_kind IS 'Kind of token that last read the order, if that of auth.mode was refused with code 4001: user (that of connect_user_id) or client (the one for all orders); null: that of auth.mode';
COMMENT ON COLUMN sync.order_queue.state IS 'pending: never fetched; open: fetched, will be fetched again when due; closed: 404 code 4000; expired: the API said is_expired; quiet: the API never sent is_expired, and nothing changed for queue.quiet_after; dead: given up, needs a person';
COMMENT ON COLUMN sync.order_queue.priority IS 'Higher is claimed first; within a priority, the nearest deadline first';
COMMENT ON COLUMN sync.order_queue.due_at IS 'Not fetched before this time; the epoch: at once. In the states closed, expired, quiet and dead: since when it is in that state';
COMMENT ON COLUMN sync.order_queue.failures IS 'Failures in a row; 0 after the next answer';
COMMENT ON COLUMN sync.order_queue.counted_failures IS 'Those of failures that count by the table in docs/policy.md: at queue.max_failures the order becomes dead';
COMMENT ON COLUMN sync.order_queue.lease_id IS 'Claim under which a worker holds the order; null: not claimed';
COMMENT ON COLUMN sync.order_queue.leased_until IS 'The lease ends at this time unless renewed; then any worker may take the order over';
COMMENT ON COLUMN sync.order_queue.last_error_kind IS 'Kind of the last failure (timeout, forbidden, partly_understood …); null after a clean answer';
COMMENT ON COLUMN sync.order_queue.last_error IS 'The last failure in words';
COMMENT ON COLUMN sync.order_queue.last_fetched_at IS 'When the request of the last good read was sent: one in which every message and is_expired were decoded';
COMMENT ON COLUMN sync.order_queue.last_changed_at IS 'When the request of the last read with new content was sent; null: never read';
COMMENT ON COLUMN sync.order_queue.content_hash IS 'SHA-256 of the content of the last read: equal content needs no write';
COMMENT ON COLUMN sync.order_queue.reply_hash IS 'SHA-256 of the program''s version and the body of the last reply that was read, if all of it was decoded and it contained is_expired: the same bytes need no decoding';
COMMENT ON COLUMN sync.order_queue.completed_at IS 'When the order was delivered or cancelled, if the feeder knows';
COMMENT ON COLUMN sync.order_queue.expired_at IS 'When the API first said is_expired';
COMMENT ON COLUMN sync.order_queue.closed_at IS 'When the API first answered that it does not know the order (404, code 4000)';
COMMENT ON COLUMN sync.order_queue.held_kind IS 'Result that the storm guard holds back: closed (404, code 4000), not_found_uncoded (404 without that code), expired (earlier than possible), refused (for good); null: none. chatsync confirm accepts it';
COMMENT ON COLUMN sync.order_queue.held_since IS 'When this result was first seen; once accepted, it counts from then';
COMMENT ON COLUMN sync.order_queue.held_times IS 'How often this result was seen in a row: the order is fetched again after 1 h, 6 h, then every 24 h';
COMMENT ON COLUMN sync.order_queue.held_id_space IS 'Server, banner and kind of ids for which it was seen; elsewhere it means nothing';
COMMENT ON COLUMN sync.order_queue.enqueued_at IS 'When the order was added to the queue';
COMMENT ON COLUMN sync.order_queue.source IS 'Where the order came from: a file name, stdin, or what the feeder writes';
COMMENT ON COLUMN sync.order_queue.fed_by IS 'Which call of chatsync enqueue added the order or changed it last; null: plain SQL';
COMMENT ON COLUMN sync.order_queue.fed_facts IS 'What that call set: 1 connect_user_id, 2 ids_internal, 4 retailer_id, 8 priority';
COMMENT ON COLUMN sync.order_queue.history IS 'The last attempts, oldest first (at most 8)';
COMMENT ON COLUMN sync.order_queue.deadline_base IS 'The deadline of the order is this time + queue.readable_window. After it, the proof or the conversation itself is lost';
COMMENT ON COLUMN sync.order_queue.ended_at IS 'Since when the order is closed, expired, quiet or dead; null in the other states. Rows older than queue.retention are deleted, except dead ones';
