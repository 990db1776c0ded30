//! `chatsync migrate`, `status` and `retry`: what operators use between runs.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Timelike as _, Utc};
use serde_json::json;

use super::{migrate, only_json, with_empty_database};
use crate::support::{Finished, Lab, tests};

tests!(
    migrating_an_empty_database_works_and_again_changes_nothing,
    several_may_migrate_at_once,
    every_table_and_column_carries_a_comment,
    keys_are_compared_byte_by_byte_in_any_language,
    status_of_an_empty_queue_is_no_error,
    status_counts_the_queue_and_names_what_comes_next,
    status_for_people_says_the_same,
    retry_puts_back_the_dead_only_if_asked_for_the_dead,
    retry_puts_back_an_order_whatever_its_state,
    retry_puts_back_what_was_closed_since_a_time,
    retry_without_a_selection_is_a_usage_error,
    retry_reports_unknown_orders_and_puts_the_others_back,
);

const ORDERS: &str = "
    INSERT INTO sync.order_queue
        (order_id, state, failures, due_at, last_fetched_at, closed_at, enqueued_at, completed_at)
    VALUES
        ('new',      'pending', 0, now() - interval '1 hour', NULL, NULL, now() - interval '2 hours', NULL),
        ('waiting',  'pending', 3, now() + interval '1 hour', NULL, NULL, now() - interval '3 hours', NULL),
        ('open',     'open',    0, now() + interval '1 day',  now(), NULL, now() - interval '9 hours', NULL),
        ('dead',     'dead',    8, now() + interval '1 day',  NULL, NULL, now() - interval '5 days', NULL),
        ('dead too', 'dead',    8, now() + interval '1 day',  now(), NULL, now() - interval '5 days', NULL),
        ('closed',   'closed',  0, now() + interval '1 day',  NULL, '2026-01-02T00:00:00Z', now(), NULL),
        ('closed before', 'closed', 0, now() + interval '1 day', NULL, '2026-01-01T00:00:00Z', now(), NULL),
        ('expired',  'expired', 0, now() + interval '1 day',  now(), NULL, now(), NULL)";

async fn migrating_an_empty_database_works_and_again_changes_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        let first = migrate(&lab, url).await?.expect_code(0);
        assert_eq!(first.stdout, "the database is up to date\n");
        assert!(first.stderr.contains("database migrated"), "{}", first.stderr);
        let again = migrate(&lab, url).await?.expect_code(0);
        assert_eq!(again.stdout, "the database is up to date\n");
        assert_eq!(again.stderr, "", "nothing was done");
        Ok(())
    })
    .await
}

async fn several_may_migrate_at_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        let (one, two, three) = tokio::try_join!(migrate(&lab, url), migrate(&lab, url), migrate(&lab, url))?;
        let all = [one.expect_code(0), two.expect_code(0), three.expect_code(0)];
        let migrated = all.iter().filter(|finished| finished.stderr.contains("database migrated")).count();
        assert_eq!(migrated, 1, "one did it all: {all:?}");
        Ok(())
    })
    .await
}

async fn every_table_and_column_carries_a_comment(lab: Arc<Lab>) -> anyhow::Result<()> {
    let described: Vec<(String, Option<String>)> = sqlx::query_as(
        "WITH tables AS (
             SELECT c.oid, format('%s.%s', c.relnamespace::regnamespace, c.relname) AS name
             FROM pg_class AS c
             WHERE c.relnamespace::regnamespace::text IN ('sync', 'chat')
               AND c.relkind IN ('r', 'p', 'v', 'm')
               AND c.oid <> 'sync.migrations'::regclass
         )
         SELECT nspname::text, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname IN ('sync', 'chat')
         UNION ALL
         SELECT name, obj_description(oid, 'pg_class') FROM tables
         UNION ALL
         SELECT format('%s.%s', name, attname), col_description(oid, attnum)
         FROM tables JOIN pg_attribute ON attrelid = oid AND attnum > 0 AND NOT attisdropped",
    )
    .fetch_all(&lab.pool)
    .await?;
    for expected in ["sync", "chat", "sync.order_queue", "chat.messages", "chat.messages.body"] {
        assert!(described.iter().any(|(name, _)| name == expected), "{expected} was not looked at");
    }
    let bare: Vec<&String> = described
        .iter()
        .filter(|(_, comment)| comment.as_deref().unwrap_or_default().trim().is_empty())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(bare, [""; 0], "without a comment");
    Ok(())
}

/// No index depends on how the libraries of the server sort text, because an update may change that.
async fn keys_are_compared_byte_by_byte_in_any_language(lab: Arc<Lab>) -> anyhow::Result<()> {
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT indrelid::regclass::text, attname::text, collname::text
         FROM pg_index
         JOIN pg_attribute ON attrelid = indexrelid
         JOIN pg_class AS c ON c.oid = indrelid
         JOIN pg_collation AS l ON l.oid = attcollation
         WHERE relnamespace::regnamespace::text IN ('sync', 'chat')",
    )
    .fetch_all(&lab.pool)
    .await?;
    assert!(columns.iter().any(|(table, column, _)| (&**table, &**column) == ("chat.messages", "order_id")));
    let others: Vec<_> =
        columns.iter().filter(|(_, column, collation)| collation != "C" && column != "state").collect();
    assert!(others.is_empty(), "in the language of the database: {others:?}");
    Ok(())
}

async fn status_of_an_empty_queue_is_no_error(lab: Arc<Lab>) -> anyhow::Result<()> {
    let status = only_json(&Finished::of(lab.with_database(&["status", "--json"])).await?.expect_code(0))?;
    assert_eq!((&status["due"], &status["runs"]), (&json!(0), &json!([])), "{status}");
    assert_eq!((&status["oldest_due_at"], &status["nearest_deadline"]), (&json!(null), &json!(null)), "{status}");
    Finished::of(lab.with_database(&["status"])).await?.expect_code(0);
    Ok(())
}

async fn status_counts_the_queue_and_names_what_comes_next(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(ORDERS).execute(&lab.pool).await?;
    record_a_run(&lab).await?;
    let mut command = lab.with_database(&["status", "--json"]);
    command.env("CHATSYNC__SCHEDULE__CRON", "15 30 2 * * *").env("CHATSYNC__SCHEDULE__TIMEZONE", "Asia/Kolkata");
    let finished = Finished::of(command).await?.expect_code(0);
    assert_eq!(finished.stderr, "");
    let status = only_json(&finished)?;
    assert_eq!(status["queue"], json!({"pending": 2, "open": 1, "closed": 2, "expired": 1, "quiet": 0, "dead": 2}));
    assert_eq!((&status["due"], &status["leased"]), (&json!(1), &json!(0)));

    let time = |key: &str| -> DateTime<Utc> { status[key].as_str().and_then(|t| t.parse().ok()).expect("a time") };
    let oldest: DateTime<Utc> =
        sqlx::query_scalar("SELECT greatest(due_at, enqueued_at) FROM sync.order_queue WHERE order_id = 'new'")
            .fetch_one(&lab.pool)
            .await?;
    assert_eq!(time("oldest_due_at"), oldest);
    // An order that is not due may still have the nearest deadline.
    let deadline: DateTime<Utc> =
        sqlx::query_scalar("SELECT enqueued_at + interval '24 hours' FROM sync.order_queue WHERE order_id = 'waiting'")
            .fetch_one(&lab.pool)
            .await?;
    assert_eq!(time("nearest_deadline"), deadline);
    let tick = time("next_tick");
    assert_eq!((tick.hour(), tick.minute(), tick.second()), (21, 0, 15), "02:30:15 in Kolkata is 21:00:15 UTC");
    assert!(tick > Utc::now() && tick <= Utc::now() + chrono::Duration::days(1), "{tick}");

    let run = &status["runs"][0];
    assert_eq!((&run["status"], &run["trigger"], &run["fetched"]), (&json!("partial"), &json!("cron"), &json!(40)));
    Ok(())
}

async fn status_for_people_says_the_same(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(ORDERS).execute(&lab.pool).await?;
    record_a_run(&lab).await?;
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0).stdout;
    let lines: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    for expected in [["pending", "2"], ["open", "1"], ["closed", "2"], ["expired", "1"], ["dead", "2"]] {
        assert!(lines.iter().any(|words| *words == expected), "{expected:?} in {status}");
    }
    assert!(status.contains("due now        1 (since "), "{status}");
    assert!(status.contains("next deadline  20") && status.contains("next tick      20"), "{status}");
    let run = lines.iter().find(|words| words.contains(&"cron")).expect("a line for the run");
    assert_eq!(run[1..6], ["cron", "partial", "40", "2", "1"], "trigger, status, fetched, closed, failed");
    Ok(())
}

async fn retry_puts_back_the_dead_only_if_asked_for_the_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(ORDERS).execute(&lab.pool).await?;
    let before = due(&lab).await?;
    assert_eq!(before, ["new pending 0"]);
    let finished = Finished::of(lab.with_database(&["retry", "--dead"])).await?.expect_code(0);
    assert_eq!(finished.stdout, "2 put back\n");
    assert_eq!(due(&lab).await?, ["dead pending 0", "dead too open 0", "new pending 0"]);
    Ok(())
}

async fn retry_puts_back_an_order_whatever_its_state(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(ORDERS).execute(&lab.pool).await?;
    let arguments = ["retry", "--order", "expired", "--order", "waiting"];
    let finished = Finished::of(lab.with_database(&arguments)).await?.expect_code(0);
    assert_eq!(finished.stdout, "2 put back\n");
    assert_eq!(due(&lab).await?, ["expired open 0", "new pending 0", "waiting pending 0"]);
    Ok(())
}

async fn retry_puts_back_what_was_closed_since_a_time(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(ORDERS).execute(&lab.pool).await?;
    let closed: DateTime<Utc> = "2026-01-02T00:00:00Z".parse()?;
    let since = closed.to_rfc3339_opts(SecondsFormat::Secs, true);
    let finished = Finished::of(lab.with_database(&["retry", "--closed-since", &since])).await?.expect_code(0);
    assert_eq!(finished.stdout, "1 put back\n");
    assert_eq!(due(&lab).await?, ["closed pending 0", "new pending 0"]);
    Finished::of(lab.with_database(&["retry", "--closed-since", "yesterday"])).await?.expect_code(2);
    Ok(())
}

async fn retry_without_a_selection_is_a_usage_error(lab: Arc<Lab>) -> anyhow::Result<()> {
    let finished = Finished::of(lab.with_database(&["retry"])).await?.expect_code(2);
    for option in ["--dead", "--order", "--closed-since"] {
        assert!(finished.stderr.contains(option), "{}", finished.stderr);
    }
    Ok(())
}

async fn retry_reports_unknown_orders_and_puts_the_others_back(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(ORDERS).execute(&lab.pool).await?;
    let arguments = ["retry", "--order", "no such order", "--order", "closed"];
    let finished = Finished::of(lab.with_database(&arguments)).await?.expect_code(3);
    assert_eq!(finished.stdout, "1 put back\n");
    assert!(finished.stderr.contains("order no such order is not in the queue"), "{}", finished.stderr);
    assert_eq!(due(&lab).await?, ["closed pending 0", "new pending 0"]);
    Ok(())
}

/// A run of last night.
async fn record_a_run(lab: &Lab) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.runs
             (run_id, trigger, worker, started_at, finished_at, alive_until, status, claimed, fetched, closed, failed)
         VALUES (gen_random_uuid(), 'cron', 'test', now() - interval '1 hour', now(), now(), 'partial', 43, 40, 2, 1)",
    )
    .execute(&lab.pool)
    .await?;
    Ok(())
}

/// What is due, with state and failures.
async fn due(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let query = "SELECT concat_ws(' ', order_id, state, failures) FROM sync.order_queue
                 WHERE state IN ('pending', 'open') AND due_at <= now() ORDER BY order_id";
    Ok(sqlx::query_scalar(query).fetch_all(&lab.pool).await?)
}
