-- Rejects are limited in age and size. What each counts for stands in the primary key's index: how many fit is seen there
-- without a look at the rows.
ALTER TABLE sync.rejects
    ADD COLUMN kept_bytes integer NOT NULL GENERATED ALWAYS AS (octet_length(body) + 300) STORED;
ALTER TABLE sync.rejects DROP CONSTRAINT rejects_pkey;
ALTER TABLE sync.rejects ADD CONSTRAINT rejects_pkey PRIMARY KEY (reject_id) INCLUDE (kept_bytes);

COMMENT ON TABLE sync.rejects IS 'Replies, or parts of replies, that could not be understood, and errors of the API that ended an order: nothing the API said is lost within rejects.keep and rejects.max_bytes. Holds chat text';
COMMENT ON COLUMN sync.rejects.kind IS 'partly_understood: this part was left out of a reply that was stored otherwise; or the kind of the failure (docs/policy.md), with the whole reply: not_understood, refused, not_found_unproven, not_storable';
COMMENT ON COLUMN sync.rejects.json_path IS 'JSONPath of the part, such as $.chat_messages[3]; $ for the whole reply';
COMMENT ON COLUMN sync.rejects.kept_bytes IS 'What this row counts for in rejects.max_bytes: the bytes of body, and 300 for the row and its indexes';

CREATE TABLE sync.rejects_dropped (
    reason          text COLLATE "C" PRIMARY KEY
                    CONSTRAINT reason_is_known CHECK (reason IN ('keep', 'max_bytes')),
    rejects         bigint NOT NULL,
    kept_bytes      bigint NOT NULL,
    last_dropped_at timestamptz NOT NULL
);

COMMENT ON TABLE sync.rejects_dropped IS 'How many rows of sync.rejects were dropped, oldest first, for each of the two limits; no row: none were';
COMMENT ON COLUMN sync.rejects_dropped.reason IS 'The setting that was exceeded: keep (rejects.keep) or max_bytes (rejects.max_bytes)';
COMMENT ON COLUMN sync.rejects_dropped.rejects IS 'Rows dropped so far';
COMMENT ON COLUMN sync.rejects_dropped.kept_bytes IS 'What these rows had counted for';
COMMENT ON COLUMN sync.rejects_dropped.last_dropped_at IS 'When the last of them were dropped';
