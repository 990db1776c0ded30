-- settle
-- Settles the queue rows of a batch, each under its lease. A row whose lease was lost is neither changed nor returned,
-- and nothing may be written for its order. Locks the rows until the transaction ends.
UPDATE sync.order_queue AS q
SET state            = b.state,
    due_at           = now() + b.due_in,
    failures         = b.failures,
    counted_failures = b.counted_failures,
    last_error_kind  = b.error_kind,
    last_error       = b.error,
    last_fetched_at  = coalesce(b.fetched_at, q.last_fetched_at),
    last_changed_at  = CASE WHEN b.content_hash IS NULL THEN q.last_changed_at ELSE b.asked_at END,
    content_hash     = coalesce(b.content_hash, q.content_hash),
    reply_hash       = b.reply_hash,
    token_kind       = b.token_kind,
    -- A good read of a conversation that is not expired refutes an earlier expiry.
    expired_at       = CASE WHEN b.fetched_at IS NULL THEN coalesce(b.expired_at, q.expired_at) END,
    closed_at        = b.closed_at,
    held_kind        = b.held_kind,
    held_since       = b.held_since,
    held_times       = b.held_times,
    held_id_space    = b.held_id_space,
    -- Keep 8 attempts: the last 7 (a slice may start below the first element) and this one. Joining arrays copies
    -- bytes; appending an element would decode the old array first.
    history          = q.history[cardinality(q.history) - 6:]
                       || ARRAY[ROW (b.asked_at, now(), b.latency_ms, b.requests, b.http_status, b.outcome)::sync.attempt],
    lease_id         = NULL,
    leased_until     = NULL
FROM unnest(
    $1::text[], $2::uuid[], $3::text[], $4::interval[], $5::integer[], $6::text[], $7::text[],
    $8::timestamptz[], $9::bytea[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::integer[],
    $14::integer[], $15::integer[], $16::smallint[], $17::text[], $18::bytea[], $19::text[],
    $20::text[], $21::timestamptz[], $22::integer[], $23::text[]
) AS b (
    order_id, lease_id, state, due_in, failures, error_kind, error,
    fetched_at, content_hash, expired_at, closed_at, asked_at, counted_failures,
    latency_ms, requests, http_status, outcome, reply_hash, token_kind,
    held_kind, held_since, held_times, held_id_space
)
WHERE q.order_id = b.order_id
  -- Redundant, so that no plan can read rows of other orders, whichever side it starts with.
  AND q.order_id = ANY ($1)
  -- A worker that was paused beyond its lease writes nothing, even if the order was not taken over yet. CASE hides the
  -- lease from the planner: its statistics know no leases, and it would search the queue for one leased row.
  AND CASE WHEN q.lease_id = b.lease_id THEN q.leased_until > now() END
RETURNING q.order_id
