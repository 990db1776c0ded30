-- The lines of one feed complete each other wherever they stand: a later value wins against an earlier one of the same
-- feed, but not against what was in the queue before it.
ALTER TABLE sync.order_queue ADD COLUMN fed_by uuid;
COMMENT ON COLUMN sync.order_queue.fed_by IS 'Which call of chatsync enqueue added the order, or put it back last; null: plain SQL did';
