-- Which kind of token read an order that the kind of auth.mode does not read.
ALTER TABLE sync.order_queue
    ADD COLUMN token_kind text
        CONSTRAINT token_kind_is_known CHECK (token_kind IN ('user', 'client'));

COMMENT ON COLUMN sync.order_queue.token_kind IS 'Which kind of token read the order last, if that of auth.mode was refused with code 4001: user (its connect_user_id''s) or client (the one for all orders); null: that of auth.mode';
