-- A new order is due at a time that is past by every clock: one that was fed just before the server's clock was set back
-- would have to wait until the clock has caught up. Rows fed in an end state have ended when they were fed.
ALTER TABLE sync.order_queue ALTER COLUMN due_at SET DEFAULT 'epoch', DROP COLUMN ended_at;
ALTER TABLE sync.order_queue
    ADD COLUMN ended_at timestamptz GENERATED ALWAYS AS (
        CASE
            WHEN state IN ('pending', 'open') THEN NULL
            WHEN due_at = 'epoch' THEN enqueued_at
            ELSE due_at
        END
    ) STORED;

CREATE INDEX order_queue_ended ON sync.order_queue (state, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX order_queue_due ON sync.order_queue (due_at) WHERE ended_at IS NULL;

COMMENT ON COLUMN sync.order_queue.due_at IS 'Not fetched before this time; the epoch: at once. In the states closed, expired, settled and dead: since when it is in that state';
COMMENT ON COLUMN sync.order_queue.ended_at IS 'Since when the order is closed, expired, settled or dead; null in the other states. Older than queue.retention, the row is deleted unless it is dead';
