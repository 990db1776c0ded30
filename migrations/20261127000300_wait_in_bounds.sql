-- A lease without an end keeps an order from being read for ever, and no program can count to it.
UPDATE sync.order_queue SET lease_id = NULL, leased_until = NULL WHERE NOT isfinite(leased_until);
ALTER TABLE sync.order_queue ADD CONSTRAINT leased_until_is_finite CHECK (isfinite(leased_until));

COMMENT ON COLUMN sync.runs.status IS 'running; succeeded: every order of the run is up to date; partial: some orders failed, or were left because a session had locked their rows or leased them for long; failed: all did, or the run could not proceed; interrupted: stopped by a signal; abandoned: its worker died, as the next run found';
COMMENT ON COLUMN sync.order_queue.last_fetched_at IS 'When the request of the last good read was sent, one that understood every message and whether the conversation had expired';
