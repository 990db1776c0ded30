-- A wait of more than a few seconds says why and until when, to those who look from outside as well.
ALTER TABLE sync.runs
    ADD COLUMN waiting_for text,
    ADD COLUMN waiting_until timestamptz;

COMMENT ON COLUMN sync.runs.waiting_for IS 'What the run waits for, if it has waited for more than ten seconds; null: it does not, or has ended';
COMMENT ON COLUMN sync.runs.waiting_until IS 'When that wait ends at the latest; null: not known';
COMMENT ON COLUMN sync.runs.status IS 'running; succeeded: every order of the run is up to date; partial: some orders failed, are held back or were found lost, none of the messages that came could be stored, or orders were left because a session had locked their rows or leased them for long; failed: nothing was answered well, or the run could not proceed; interrupted: stopped by a signal; abandoned: its worker died, as the next run found';
COMMENT ON COLUMN sync.runs.error IS 'Why the run could not proceed, or how most orders of a failed run failed: the kind, how many orders, and one of them';
COMMENT ON COLUMN sync.runs.at_risk IS 'At the end of the run: live orders whose deadline is still to come, but before the next run is expected to reach them, as chatsync plan reckons; null: not counted';
COMMENT ON COLUMN sync.runs.overdue IS 'At the end of the run: live orders whose deadline has passed, unread or unproven; null: not counted';
