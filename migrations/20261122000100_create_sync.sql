-- Schema sync: the worker's own tables. Analysts read schema chat.
CREATE SCHEMA IF NOT EXISTS sync;
COMMENT ON SCHEMA sync IS 'chatsync''s own tables: the work queue, its runs, and replies that could not be understood';

CREATE TABLE sync.order_queue (
    order_id        text PRIMARY KEY
                    CONSTRAINT order_id_fits_a_path_segment CHECK (
                        octet_length(order_id) BETWEEN 1 AND 512
                        AND order_id NOT IN ('.', '..')
                        AND order_id !~ '[\x01-\x1f\x7f]'
                    ),
    connect_user_id text
                    CONSTRAINT connect_user_id_is_not_empty CHECK (connect_user_id <> ''),
    ids_internal    boolean,
    retailer_id     text
                    CONSTRAINT retailer_id_fits_a_header CHECK (retailer_id !~ '[^\x20-\x7e]'),
    state           text NOT NULL DEFAULT 'pending'
                    CONSTRAINT state_is_known CHECK (state IN ('pending', 'open', 'closed', 'expired', 'settled', 'dead')),
    priority        smallint NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT now()
                    CONSTRAINT due_at_is_finite CHECK (isfinite(due_at)),
    attempts        integer NOT NULL DEFAULT 0,
    strikes         integer NOT NULL DEFAULT 0,
    lease_id        uuid,
    leased_until    timestamptz,
    last_error_kind text,
    last_error      text,
    last_fetched_at timestamptz,
    last_changed_at timestamptz,
    content_hash    bytea,
    completed_at    timestamptz
                    CONSTRAINT completed_at_is_finite CHECK (isfinite(completed_at)),
    expired_at      timestamptz,
    closed_at       timestamptz,
    enqueued_at     timestamptz NOT NULL DEFAULT now()
                    CONSTRAINT enqueued_at_is_finite CHECK (isfinite(enqueued_at)),
    source          text,
    deadline_base   timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(completed_at, last_fetched_at, enqueued_at)) STORED
) WITH (
    -- Every claim and every failure updates a row in place: leave room for the new version on the same page, and
    -- vacuum by a share of the table that does not grow with its terminal rows.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- The only index besides the primary key. It covers what can still be claimed, in the order of claiming, and none of
-- the columns that a claim, a lease renewal or a failure changes: those updates stay in place.
CREATE INDEX order_queue_claim ON sync.order_queue ((-priority::integer), deadline_base, order_id)
    WHERE state IN ('pending', 'open');

COMMENT ON TABLE sync.order_queue IS 'Work queue: one row per order. Feed it with INSERT INTO sync.order_queue (order_id, connect_user_id) VALUES (…) ON CONFLICT DO NOTHING';
COMMENT ON COLUMN sync.order_queue.order_id IS 'Id of the order exactly as sent in the request path (the retailer''s own id unless ids_internal)';
COMMENT ON COLUMN sync.order_queue.connect_user_id IS 'Connect user whose token may read the order; needed with auth.mode = user_assertion, null otherwise';
COMMENT ON COLUMN sync.order_queue.ids_internal IS 'Overrides api.treat_ids_as_internal for this order; null: the setting holds';
COMMENT ON COLUMN sync.order_queue.retailer_id IS 'Overrides api.retailer_id for this order; null: the setting holds';
COMMENT ON COLUMN sync.order_queue.state IS 'pending: never fetched; open: fetched, will be fetched again when due; closed: 404 code 4000; expired: the API said is_expired; settled: no word of is_expired but quiet for queue.settle_after; dead: given up, needs a person';
COMMENT ON COLUMN sync.order_queue.priority IS 'Higher is claimed first; within a priority the nearest deadline goes first';
COMMENT ON COLUMN sync.order_queue.due_at IS 'Not fetched before this time; means nothing in the states closed, expired, settled and dead';
COMMENT ON COLUMN sync.order_queue.attempts IS 'Consecutive failures; back to 0 with the next answer';
COMMENT ON COLUMN sync.order_queue.strikes IS 'Those of attempts that were no outage: at queue.max_attempts the order is dead';
COMMENT ON COLUMN sync.order_queue.lease_id IS 'Claim under which a worker holds the order; null: nobody does';
COMMENT ON COLUMN sync.order_queue.leased_until IS 'The lease ends here unless renewed; from then on any worker may take the order over';
COMMENT ON COLUMN sync.order_queue.last_error_kind IS 'Short name of what went wrong last (timeout, forbidden, partly_understood …); null after a clean answer';
COMMENT ON COLUMN sync.order_queue.last_error IS 'What went wrong last, for people';
COMMENT ON COLUMN sync.order_queue.last_fetched_at IS 'When the request of the last good read, one that understood every message, was sent';
COMMENT ON COLUMN sync.order_queue.last_changed_at IS 'When the request of the last read that brought something new was sent; null: never read';
COMMENT ON COLUMN sync.order_queue.content_hash IS 'SHA-256 of the last read''s content: an equal one needs no write';
COMMENT ON COLUMN sync.order_queue.completed_at IS 'When the order was delivered or cancelled, if the feeder knows';
COMMENT ON COLUMN sync.order_queue.expired_at IS 'When the API was first seen to say is_expired';
COMMENT ON COLUMN sync.order_queue.closed_at IS 'When the API was seen not to know the order (404, code 4000)';
COMMENT ON COLUMN sync.order_queue.enqueued_at IS 'When the order entered the queue';
COMMENT ON COLUMN sync.order_queue.source IS 'Where the order came from: a file name, stdin, or whatever the feeder writes';
COMMENT ON COLUMN sync.order_queue.deadline_base IS 'The order''s deadline is this time + queue.readable_window: missed, proof or the conversation itself is lost';

CREATE TABLE sync.runs (
    run_id            uuid PRIMARY KEY,
    trigger           text NOT NULL CONSTRAINT trigger_is_known CHECK (trigger IN ('cron', 'manual', 'startup')),
    worker            text NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    alive_until       timestamptz NOT NULL,
    status            text NOT NULL DEFAULT 'running'
                      CONSTRAINT status_is_known CHECK (status IN ('running', 'succeeded', 'partial', 'failed', 'interrupted', 'abandoned')),
    claimed           bigint NOT NULL DEFAULT 0,
    fetched           bigint NOT NULL DEFAULT 0,
    unchanged         bigint NOT NULL DEFAULT 0,
    closed            bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    dead              bigint NOT NULL DEFAULT 0,
    messages_inserted bigint NOT NULL DEFAULT 0,
    messages_updated  bigint NOT NULL DEFAULT 0,
    users_written     bigint NOT NULL DEFAULT 0,
    requests          bigint NOT NULL DEFAULT 0,
    throttled         bigint NOT NULL DEFAULT 0,
    error             text
) WITH (fillfactor = 50);

CREATE INDEX runs_started_at ON sync.runs (started_at);

COMMENT ON TABLE sync.runs IS 'One row per run of one worker. Counters are raised in the transactions that write the rows they count';
COMMENT ON COLUMN sync.runs.run_id IS 'Id of the run (UUID version 7: sorts by time)';
COMMENT ON COLUMN sync.runs.trigger IS 'What started it: cron, manual (chatsync sync) or startup';
COMMENT ON COLUMN sync.runs.worker IS 'Host name, process id and a random part that is new at every start';
COMMENT ON COLUMN sync.runs.started_at IS 'Start; orders due by then are the run''s work';
COMMENT ON COLUMN sync.runs.finished_at IS 'End; null while running, or when the worker died';
COMMENT ON COLUMN sync.runs.alive_until IS 'The worker gives another sign of life before this time, or it is dead';
COMMENT ON COLUMN sync.runs.status IS 'running; succeeded: every order of the run is up to date; partial: some orders failed; failed: all did, or the run could not proceed; interrupted: stopped by a signal; abandoned: its worker died, as the next run found';
COMMENT ON COLUMN sync.runs.claimed IS 'Orders settled by this run: fetched + closed + failed + dead';
COMMENT ON COLUMN sync.runs.fetched IS 'Orders answered with a conversation that was understood, expired ones included';
COMMENT ON COLUMN sync.runs.unchanged IS 'Those of fetched that brought nothing new';
COMMENT ON COLUMN sync.runs.closed IS 'Orders that the API does not know (404, code 4000)';
COMMENT ON COLUMN sync.runs.failed IS 'Orders that failed and will be tried again later';
COMMENT ON COLUMN sync.runs.dead IS 'Orders given up in this run';
COMMENT ON COLUMN sync.runs.messages_inserted IS 'Rows added to chat.messages';
COMMENT ON COLUMN sync.runs.messages_updated IS 'Rows of chat.messages that changed, those marked as removed included';
COMMENT ON COLUMN sync.runs.users_written IS 'Rows of chat.users added or changed';
COMMENT ON COLUMN sync.runs.requests IS 'HTTP requests that these orders took, retries and token requests included';
COMMENT ON COLUMN sync.runs.throttled IS 'Those of requests that were answered with 429';
COMMENT ON COLUMN sync.runs.error IS 'Why the run could not proceed';

CREATE TABLE sync.rejects (
    reject_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    text NOT NULL,
    run_id      uuid NOT NULL,
    received_at timestamptz NOT NULL,
    http_status smallint,
    kind        text NOT NULL,
    json_path   text NOT NULL,
    reason      text NOT NULL,
    body        text NOT NULL,
    body_bytes  bigint NOT NULL
);

CREATE INDEX rejects_order_id ON sync.rejects (order_id);

COMMENT ON TABLE sync.rejects IS 'Replies, or parts of replies, that could not be understood: nothing the API said is lost. Holds chat text';
COMMENT ON COLUMN sync.rejects.reject_id IS 'Row id';
COMMENT ON COLUMN sync.rejects.order_id IS 'The order that was asked for';
COMMENT ON COLUMN sync.rejects.run_id IS 'The run that asked';
COMMENT ON COLUMN sync.rejects.received_at IS 'When the reply came';
COMMENT ON COLUMN sync.rejects.http_status IS 'Status of the reply';
COMMENT ON COLUMN sync.rejects.kind IS 'partly_understood: this part was left out of a reply that was stored otherwise; not_understood: the whole reply';
COMMENT ON COLUMN sync.rejects.json_path IS 'JSONPath of the part, such as $.chat_messages[3]; $ for the whole reply';
COMMENT ON COLUMN sync.rejects.reason IS 'What was expected and what was found';
COMMENT ON COLUMN sync.rejects.body IS 'The part itself, at most 64 KiB of it; bytes that are not UTF-8, and NUL, are written as \xNN';
COMMENT ON COLUMN sync.rejects.body_bytes IS 'Size of the part before it was cut';
