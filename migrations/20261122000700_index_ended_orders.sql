-- When an order came to its end: what retention, `chatsync retry` and `chatsync status` go by, without a look at the
-- millions that have long ended. A generated column, like deadline_base: null as long as the order is live, and one
-- name for it in the index, in statements and for people. Rewrites the table once.
ALTER TABLE sync.order_queue
    ADD COLUMN ended_at timestamptz GENERATED ALWAYS AS (CASE WHEN state NOT IN ('pending', 'open') THEN due_at END) STORED;

-- The counterpart of order_queue_claim: an order is in one of the two.
CREATE INDEX order_queue_ended ON sync.order_queue (state, ended_at) WHERE ended_at IS NOT NULL;

COMMENT ON COLUMN sync.order_queue.due_at IS 'Not fetched before this time; in the states closed, expired, settled and dead: since when it is in that state';
COMMENT ON COLUMN sync.order_queue.ended_at IS 'Since when the order is closed, expired, settled or dead; null in the other states. Older than queue.retention, the row is deleted unless it is dead';
