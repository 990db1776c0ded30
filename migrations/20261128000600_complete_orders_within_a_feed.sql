-- The lines of one feed complete each other wherever they stand: a later value wins against an earlier one of the same
-- feed, but not against what was in the queue before it.
ALTER TABLE sync.order_queue
    ADD COLUMN fed_by uuid,
    ADD COLUMN fed_facts smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN sync.order_queue.fed_by IS 'Which call of chatsync enqueue added the order, or changed it last; null: plain SQL did';
COMMENT ON COLUMN sync.order_queue.fed_facts IS 'What that call set: 1 connect_user_id, 2 ids_internal, 4 retailer_id, 8 priority';
