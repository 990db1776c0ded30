-- Most live orders have been read and are not due for hours, and their deadlines come before those of new ones. With
-- due_at in the index a claim passes over them without a look at their rows. A failure, which moves due_at, now writes
-- to the indexes; a claim and a renewal still do not.
DROP INDEX sync.order_queue_claim;
CREATE INDEX order_queue_claim ON sync.order_queue ((-priority::integer), deadline_base, order_id, due_at)
    WHERE state IN ('pending', 'open');
