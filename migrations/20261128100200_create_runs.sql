CREATE TABLE sync.runs (
    run_id              uuid PRIMARY KEY,
    trigger             text NOT NULL CONSTRAINT trigger_is_known CHECK (trigger IN ('cron', 'manual', 'startup')),
    worker              text NOT NULL,
    started_at          timestamptz NOT NULL DEFAULT now(),
    finished_at         timestamptz,
    alive_until         timestamptz NOT NULL,
    status              text NOT NULL DEFAULT 'running'
                        CONSTRAINT status_is_known CHECK (status IN (
                            'running', 'succeeded', 'partial', 'failed', 'interrupted', 'abandoned')),
    claimed             bigint NOT NULL DEFAULT 0,
    fetched             bigint NOT NULL DEFAULT 0,
    unchanged           bigint NOT NULL DEFAULT 0,
    closed              bigint NOT NULL DEFAULT 0,
    held                bigint NOT NULL DEFAULT 0,
    failed              bigint NOT NULL DEFAULT 0,
    dead                bigint NOT NULL DEFAULT 0,
    lost                bigint NOT NULL DEFAULT 0,
    unproven            bigint NOT NULL DEFAULT 0,
    messages_inserted   bigint NOT NULL DEFAULT 0,
    messages_updated    bigint NOT NULL DEFAULT 0,
    messages_left_out   bigint NOT NULL DEFAULT 0,
    users_written       bigint NOT NULL DEFAULT 0,
    requests            bigint NOT NULL DEFAULT 0,
    throttled           bigint NOT NULL DEFAULT 0,
    at_risk             bigint,
    overdue             bigint,
    error               text,
    api                 text COLLATE "C",
    requests_per_second double precision,
    served_per_second   double precision,
    waiting_for         text,
    waiting_until       timestamptz
) WITH (fillfactor = 50);

CREATE INDEX runs_started_at ON sync.runs (started_at);
-- Workers look every few seconds which runs share their pace, among years of runs that ended.
CREATE INDEX runs_running ON sync.runs (api) WHERE status = 'running';

COMMENT ON TABLE sync.runs IS 'One row per run of one worker. Counters rise in the transactions that write the rows they count';
COMMENT ON COLUMN sync.runs.run_id IS 'Id of the run (UUID version 7: sorts by time)';
COMMENT ON COLUMN sync.runs.trigger IS 'What started it: cron, manual (chatsync sync) or startup';
COMMENT ON COLUMN sync.runs.worker IS 'Host name, process id and a random part that is new at every start';
COMMENT ON COLUMN sync.runs.started_at IS 'Start; the run works on the orders that were due then';
COMMENT ON COLUMN sync.runs.finished_at IS 'End; null while running, or if the worker died';
COMMENT ON COLUMN sync.runs.alive_until IS 'The worker sends another sign of life before this time, or it is dead';
COMMENT ON COLUMN sync.runs.status IS 'running; succeeded: every order of the run is up to date; partial: some orders failed, are held back or were found lost, no message could be stored, or orders were skipped because another session had locked their rows or leased them for long; failed: no order was fetched, or the run could not proceed; interrupted: stopped by a signal; abandoned: its worker died, as the next run found';
COMMENT ON COLUMN sync.runs.claimed IS 'Orders settled by this run: fetched + closed + held + failed + dead';
COMMENT ON COLUMN sync.runs.fetched IS 'Orders whose conversation was decoded, expired ones included';
COMMENT ON COLUMN sync.runs.unchanged IS 'Those of fetched without new content';
COMMENT ON COLUMN sync.runs.closed IS 'Orders that the API does not know (404, code 4000)';
COMMENT ON COLUMN sync.runs.held IS 'Orders whose result the storm guard held back: they are fetched again';
COMMENT ON COLUMN sync.runs.failed IS 'Orders that failed and will be retried later';
COMMENT ON COLUMN sync.runs.dead IS 'Orders given up in this run';
COMMENT ON COLUMN sync.runs.lost IS 'Orders that had expired before the first good read, counted in the run that found it';
COMMENT ON COLUMN sync.runs.unproven IS 'Orders whose last good read was too early to prove completeness, counted in the run that found it';
COMMENT ON COLUMN sync.runs.messages_inserted IS 'Rows added to chat.messages';
COMMENT ON COLUMN sync.runs.messages_updated IS 'Rows of chat.messages that changed, those marked as removed included';
COMMENT ON COLUMN sync.runs.messages_left_out IS 'Messages that could not be stored because they had no usable id';
COMMENT ON COLUMN sync.runs.users_written IS 'Rows of chat.users added or changed';
COMMENT ON COLUMN sync.runs.requests IS 'HTTP requests of this run, retries and token requests included';
COMMENT ON COLUMN sync.runs.throttled IS 'Those of requests that were answered with 429';
COMMENT ON COLUMN sync.runs.at_risk IS 'At the end of the run: live orders whose deadline lies ahead, but before the next run will reach them, as chatsync plan estimates; null: not counted';
COMMENT ON COLUMN sync.runs.overdue IS 'At the end of the run: live orders whose deadline has passed, unread or unproven; null: not counted';
COMMENT ON COLUMN sync.runs.error IS 'Why the run could not proceed, or the most frequent failure of a failed run: its kind, the number of orders, and one of them';
COMMENT ON COLUMN sync.runs.api IS 'api.base_url: running runs with the same one share its pace';
COMMENT ON COLUMN sync.runs.requests_per_second IS 'This worker''s share of the pace at its last sign of life';
COMMENT ON COLUMN sync.runs.served_per_second IS 'Requests per second that this worker was served over five seconds, at its last sign of life; null: it has not sent requests for so long';
COMMENT ON COLUMN sync.runs.waiting_for IS 'What the run waits for, if for more than ten seconds; null: it does not wait, or has ended';
COMMENT ON COLUMN sync.runs.waiting_until IS 'When that wait ends at the latest; null: not known';

CREATE TABLE sync.rejects (
    reject_id   bigint GENERATED ALWAYS AS IDENTITY,
    order_id    text COLLATE "C" NOT NULL,
    run_id      uuid NOT NULL,
    received_at timestamptz NOT NULL,
    http_status smallint,
    kind        text NOT NULL,
    json_path   text NOT NULL,
    reason      text NOT NULL,
    body        text NOT NULL,
    body_bytes  bigint NOT NULL,
    kept_bytes  integer NOT NULL GENERATED ALWAYS AS (octet_length(body) + 300) STORED,
    -- With kept_bytes in the index, the oldest rows beyond rejects.max_bytes are found without reading any row.
    PRIMARY KEY (reject_id) INCLUDE (kept_bytes)
);

CREATE INDEX rejects_order_id ON sync.rejects (order_id);

COMMENT ON TABLE sync.rejects IS 'Replies, or parts of replies, that could not be decoded, and errors of the API that ended an order; kept within rejects.keep and rejects.max_bytes. Contains chat text';
COMMENT ON COLUMN sync.rejects.reject_id IS 'Row id';
COMMENT ON COLUMN sync.rejects.order_id IS 'The order that was fetched';
COMMENT ON COLUMN sync.rejects.run_id IS 'The run that fetched it';
COMMENT ON COLUMN sync.rejects.received_at IS 'When the reply came';
COMMENT ON COLUMN sync.rejects.http_status IS 'Status of the reply';
COMMENT ON COLUMN sync.rejects.kind IS 'partly_understood: a part that was left out of a stored reply; or, with the whole reply, the kind of the failure (docs/policy.md): not_understood, refused, not_found_unproven, not_storable';
COMMENT ON COLUMN sync.rejects.json_path IS 'JSONPath of the part, such as $.chat_messages[3]; $ for the whole reply';
COMMENT ON COLUMN sync.rejects.reason IS 'What was expected and what was found';
COMMENT ON COLUMN sync.rejects.body IS 'The part, cut at 64 KiB; bytes that are not UTF-8, and NUL, are written as \xNN';
COMMENT ON COLUMN sync.rejects.body_bytes IS 'Size of the part before it was cut';
COMMENT ON COLUMN sync.rejects.kept_bytes IS 'What this row counts in rejects.max_bytes: the bytes of body, and 300 for the row and its indexes';

CREATE TABLE sync.rejects_dropped (
    reason          text COLLATE "C" PRIMARY KEY
                    CONSTRAINT reason_is_known CHECK (reason IN ('keep', 'max_bytes')),
    rejects         bigint NOT NULL,
    kept_bytes      bigint NOT NULL,
    last_dropped_at timestamptz NOT NULL
);

COMMENT ON TABLE sync.rejects_dropped IS 'How many rows of sync.rejects were deleted, oldest first, for each of the two limits; no row: none';
COMMENT ON COLUMN sync.rejects_dropped.reason IS 'The setting that was exceeded: keep (rejects.keep) or max_bytes (rejects.max_bytes)';
COMMENT ON COLUMN sync.rejects_dropped.rejects IS 'Rows deleted so far';
COMMENT ON COLUMN sync.rejects_dropped.kept_bytes IS 'The sum of their kept_bytes';
COMMENT ON COLUMN sync.rejects_dropped.last_dropped_at IS 'When rows were last deleted for this reason';
