-- The same bytes again need not be taken apart to know that they say the same.
ALTER TABLE sync.order_queue ADD COLUMN reply_hash bytea;

COMMENT ON COLUMN sync.order_queue.reply_hash IS 'SHA-256 of the program''s version and the body of the last reply that was read, if it was understood as a whole and spoke of expiry: the same bytes again say nothing new';
