COMMENT ON COLUMN sync.runs.requests IS 'HTTP requests of this run, retries and token requests included';
COMMENT ON COLUMN sync.runs.throttled IS 'Those of requests that were answered with 429';
COMMENT ON COLUMN sync.order_queue.strikes IS 'Those of attempts that count by the policy table: at queue.max_attempts the order is dead';
