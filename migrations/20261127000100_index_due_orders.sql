-- Most runs find few orders due among many that wait: what there is to do, and that there is nothing, is told by these
-- rows alone. Reading an order again moves due_at to the end of the index; claims and renewals leave it alone.
-- Live orders are here those without ended_at. Claims say it by the state: so that the planner, which knows nothing of
-- how many are due, cannot choose for them to sort all that are due, again for each claim.
CREATE INDEX order_queue_due ON sync.order_queue (due_at) WHERE ended_at IS NULL;
