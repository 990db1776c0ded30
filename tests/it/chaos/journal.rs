//! A journal of the queue, kept by triggers: every claim and every settlement, in the same transaction.
//!
//! It records every committed change and nothing that was rolled back. It shows that no order was claimed while it was
//! leased, before it was due or after its end. (A *request* after the end is allowed: a paused worker may send it late,
//! and then writes nothing.)

use anyhow::ensure;

use crate::support::Lab;

const KEEP: &str = "
    CREATE SCHEMA journal;
    CREATE TABLE journal.claims (order_id text, state text, is_due boolean, is_free boolean);
    CREATE TABLE journal.settlements (order_id text, was text, becomes text, is_held boolean, outcome text);

    CREATE FUNCTION journal.note_claim() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO journal.claims
        VALUES (OLD.order_id, OLD.state, OLD.due_at <= now(), coalesce(OLD.leased_until <= now(), true));
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_claim AFTER UPDATE ON sync.order_queue FOR EACH ROW
    WHEN (NEW.lease_id IS NOT NULL AND NEW.lease_id IS DISTINCT FROM OLD.lease_id)
    EXECUTE FUNCTION journal.note_claim();

    CREATE FUNCTION journal.note_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO journal.settlements
        VALUES (OLD.order_id, OLD.state, NEW.state, coalesce(OLD.leased_until > now(), false),
                NEW.history[cardinality(NEW.history)].outcome);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_settlement AFTER UPDATE ON sync.order_queue FOR EACH ROW
    WHEN (NEW.history IS DISTINCT FROM OLD.history OR NEW.state IS DISTINCT FROM OLD.state)
    EXECUTE FUNCTION journal.note_settlement();";

/// Forbidden events, and the queries that find them.
const FAULTS: [(&str, &str); 13] = [
    (
        "orders claimed that were held, not due, or at their end",
        "SELECT count(*) FROM journal.claims WHERE state NOT IN ('pending', 'open') OR NOT is_due OR NOT is_free",
    ),
    (
        "orders settled without a lease, or after their end",
        "SELECT count(*) FROM journal.settlements WHERE NOT is_held OR was NOT IN ('pending', 'open')",
    ),
    (
        "more settlements than claims",
        "
        SELECT count(*) FROM (SELECT order_id, count(*) FROM journal.settlements GROUP BY 1) AS s
        LEFT JOIN (SELECT order_id, count(*) FROM journal.claims GROUP BY 1) AS c USING (order_id)
        WHERE s.count > coalesce(c.count, 0)",
    ),
    ("orders dead", "SELECT count(*) FROM sync.order_queue WHERE state = 'dead'"),
    (
        "orders that were never answered",
        "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' OR failures > 0 OR counted_failures > 0",
    ),
    (
        "orders without a row, or with one of another state",
        "SELECT count(*) FROM sync.order_queue AS q LEFT JOIN chat.orders AS o USING (order_id)
         WHERE o.status IS DISTINCT FROM q.state",
    ),
    ("runs that never ended", "SELECT count(*) FROM sync.runs WHERE status = 'running'"),
    (
        "runs with fewer requests than answers, or more 429s than requests",
        "SELECT count(*) FROM sync.runs WHERE requests < claimed OR throttled > requests",
    ),
    (
        "claimed too much or too little",
        "
        SELECT (SELECT sum(claimed) FROM sync.runs)::bigint - (SELECT count(*) FROM journal.settlements)",
    ),
    (
        "closed too much or too little",
        "
        SELECT (SELECT sum(closed) FROM sync.runs)::bigint
               - (SELECT count(*) FROM sync.order_queue WHERE state = 'closed')",
    ),
    (
        "read too much or too little",
        "
        SELECT (SELECT sum(fetched) FROM sync.runs)::bigint
               - (SELECT count(*) FROM journal.settlements
                  WHERE outcome IN ('read', 'unchanged', 'expired', 'partly_understood'))",
    ),
    (
        "inserted too much or too little",
        "
        SELECT (SELECT sum(messages_inserted) FROM sync.runs)::bigint - (SELECT count(*) FROM chat.messages)",
    ),
    // Each message changes once, when it is read.
    (
        "updated too much or too little",
        "
        SELECT (SELECT sum(messages_updated) FROM sync.runs)::bigint
               - (SELECT count(*) FROM chat.messages WHERE updated_at > first_synced_at)",
    ),
];

/// Starts the journal.
pub(super) async fn keep(lab: &Lab) -> anyhow::Result<()> {
    sqlx::raw_sql(KEEP).execute(&lab.pool).await?;
    Ok(())
}

/// Fails if a forbidden event happened.
pub(super) async fn check(lab: &Lab) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for (fault, query) in FAULTS {
        let count = lab.count(query).await?;
        if count != 0 {
            found.push(format!("{fault}: {count}"));
        }
    }
    ensure!(found.is_empty(), "{}", found.join("; "));
    Ok(())
}

/// Summarises what happened in one line.
pub(super) async fn summary(lab: &Lab) -> anyhow::Result<String> {
    let summary = lab.text(
        "SELECT concat_ws('; ',
             (SELECT 'runs: ' || string_agg(count || ' ' || status, ', ')
              FROM (SELECT status, count(*) FROM sync.runs GROUP BY 1 ORDER BY 1) AS r),
             (SELECT 'orders: ' || string_agg(count || ' ' || outcome, ', ')
              FROM (SELECT outcome, count(*) FROM journal.settlements GROUP BY 1 ORDER BY 1) AS s),
             (SELECT count(*) || ' claims' FROM journal.claims))",
    );
    Ok(summary.await?.unwrap_or_default())
}
