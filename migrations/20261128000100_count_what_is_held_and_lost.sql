-- What a run could not take for granted, and what it found lost: no loss is silent.
ALTER TABLE sync.runs
    ADD COLUMN held bigint NOT NULL DEFAULT 0,
    ADD COLUMN lost bigint NOT NULL DEFAULT 0,
    ADD COLUMN unproven bigint NOT NULL DEFAULT 0,
    ADD COLUMN messages_left_out bigint NOT NULL DEFAULT 0,
    ADD COLUMN at_risk bigint,
    ADD COLUMN overdue bigint;

COMMENT ON COLUMN sync.runs.held IS 'Orders whose reply the storm guard held back: nothing of it is believed yet, they are asked for again';
COMMENT ON COLUMN sync.runs.lost IS 'Orders that had expired before the first good read, counted in the run that found it';
COMMENT ON COLUMN sync.runs.unproven IS 'Orders whose last good read was too early to prove completeness, counted in the run that found it';
COMMENT ON COLUMN sync.runs.messages_left_out IS 'Messages that could not be stored, because they had no usable id';
COMMENT ON COLUMN sync.runs.at_risk IS 'At the end of the run: live orders whose deadline passes before the next run is expected to reach them; null: not counted';
COMMENT ON COLUMN sync.runs.overdue IS 'At the end of the run: live orders whose deadline has passed, unread or unproven; null: not counted';
