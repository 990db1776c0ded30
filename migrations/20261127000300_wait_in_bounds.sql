-- A time that no program can count to is no lease: whoever wrote it by hand meant a priority, or the state dead.
UPDATE sync.order_queue SET lease_id = NULL, leased_until = NULL WHERE NOT isfinite(leased_until);
ALTER TABLE sync.order_queue ADD CONSTRAINT leased_until_is_finite CHECK (isfinite(leased_until));
