//! `chatsync status`: problems first, all of it in 80 columns.

use std::sync::Arc;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::only_json;
use crate::support::{Finished, Lab, tests};

tests!(
    nothing_is_wrong_with_an_empty_queue,
    problems_come_first_and_each_names_a_command,
    runs_in_which_nothing_was_due_are_folded_and_a_failed_one_stays_in_view,
    as_many_runs_are_shown_as_asked_for,
    failing_orders_are_listed_by_kind_with_examples,
    it_fits_into_80_columns_whatever_the_numbers,
);

async fn nothing_is_wrong_with_an_empty_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    let status = text(&lab, &[]).await?;
    assert!(status.starts_with("nothing is wrong\n") && status.contains("no run yet"), "{status}");
    let status = only_json(&Finished::of(lab.with_database(&["status", "--json"])).await?.expect_code(0))?;
    assert_eq!((&status["problems"], &status["coverage"]), (&json!([]), &json!({})), "{status}");
    Ok(())
}

async fn problems_come_first_and_each_names_a_command(lab: Arc<Lab>) -> anyhow::Result<()> {
    run(&lab, 2, "cron", "failed", 10, "the API has been out of order for 900 s").await?;
    run(&lab, 3, "cron", "succeeded", 10, "").await?;
    trouble(&lab).await?;
    sqlx::raw_sql(
        "UPDATE sync.order_queue SET held_kind = 'closed', held_since = now(), held_times = 1 WHERE order_id = 'order-3';
         INSERT INTO sync.rejects_dropped VALUES ('keep', 7, 70, now()), ('max_bytes', 9, 90, now())",
    )
    .execute(&lab.pool)
    .await?;
    let status = text(&lab, &[]).await?;
    for line in [
        "\nrejects        7 dropped (rejects.keep), the last 20",
        "\nrejects        9 dropped (rejects.max_bytes), the last 20",
    ] {
        assert!(status.contains(line), "{status}");
    }
    let problems: Vec<&str> = status.lines().take_while(|line| !line.is_empty()).collect();
    assert!(problems[0].starts_with("! the run of 20") && problems[0].contains(" failed: the API"), "{status}");
    for (problem, command) in [
        ("! 3 order(s) overdue", "  → chatsync sync"),
        ("! 1 order(s) held back, their replies may be wrong: closed 1", "  → chatsync confirm --dry-run"),
        ("! 9 reject(s) dropped: more than rejects.max_bytes came", "  → chatsync status --failing"),
        ("! 2 order(s) given up", "  → chatsync status --failing; chatsync retry --dead"),
        // Held orders are counted separately.
        ("! 2 order(s) that failed", "  → chatsync status --failing"),
    ] {
        let place = problems.iter().position(|line| line.starts_with(problem)).expect(problem);
        assert_eq!(problems[place + 1], command, "{status}");
    }
    // Superseded by the run after it.
    run(&lab, 1, "cron", "succeeded", 10, "").await?;
    assert!(!text(&lab, &[]).await?.contains("! the run of"));
    // Running as recorded, but its sign of life is overdue.
    run(&lab, 0, "cron", "running", 10, "").await?;
    assert!(text(&lab, &[]).await?.contains("was abandoned: its worker fell silent\n  → chatsync sync"));
    Ok(())
}

async fn runs_in_which_nothing_was_due_are_folded_and_a_failed_one_stays_in_view(lab: Arc<Lab>) -> anyhow::Result<()> {
    for minutes in (1..=12).chain(14..=15) {
        run(&lab, minutes, "cron", "succeeded", 0, "").await?;
    }
    run(&lab, 13, "cron", "failed", 7, "no order was answered").await?;
    run(&lab, 16, "cron", "partial", 5, "").await?;
    let status = text(&lab, &[]).await?;
    let lines: Vec<&str> = status.lines().skip_while(|line| !line.starts_with("started")).skip(1).collect();
    assert_eq!(lines.len(), 5, "{status}");
    for (line, expected) in lines.iter().zip([
        "  12 runs in which nothing was due",
        " failed ",
        "    no order was answered",
        "  2 runs in which nothing was due",
        " partial ",
    ]) {
        assert!(line.contains(expected), "{expected:?} in {status}");
    }
    let status = only_json(&Finished::of(lab.with_database(&["status", "--json"])).await?.expect_code(0))?;
    let statuses: Vec<&str> =
        status["runs"].as_array().expect("runs").iter().filter_map(|run| run["status"].as_str()).collect();
    assert_eq!(statuses, ["failed", "partial"]);
    let idle = status["idle_runs"].as_array().expect("idle runs");
    assert_eq!(
        [(&idle[0]["after_them"], &idle[0]["runs"]), (&idle[1]["after_them"], &idle[1]["runs"])],
        [(&json!(0), &json!(12)), (&json!(1), &json!(2)),]
    );
    Ok(())
}

async fn as_many_runs_are_shown_as_asked_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    for minutes in 1..=9 {
        run(&lab, minutes, "manual", "succeeded", 3, "").await?;
    }
    for (arguments, runs) in [(&[][..], 5), (&["--runs", "2"], 2), (&["--runs", "100"], 9)] {
        let status = text(&lab, arguments).await?;
        assert_eq!(status.lines().filter(|line| line.contains("  manual  ")).count(), runs, "{status}");
    }
    Finished::of(lab.with_database(&["status", "--runs", "0"])).await?.expect_code(2);
    Ok(())
}

async fn failing_orders_are_listed_by_kind_with_examples(lab: Arc<Lab>) -> anyhow::Result<()> {
    assert_eq!(text(&lab, &["--failing"]).await?, "no order fails\n");
    trouble(&lab).await?;
    let status = text(&lab, &["--failing"]).await?;
    let words: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["forbidden", "2", "1", "order-1"]), "{status}");
    assert!(words.contains(&vec!["timeout", "1", "0", "order-3"]), "{status}");
    assert!(status.contains("chatsync retry --dead"), "{status}");
    let command = lab.with_database(&["status", "--failing", "--json"]);
    let failing = only_json(&Finished::of(command).await?.expect_code(0))?;
    let forbidden =
        json!({"kind": "forbidden", "failing": 2, "dead": 1, "examples": ["order-1", "order-2", "order-4"]});
    assert_eq!(failing["failing"][0], forbidden);
    Ok(())
}

async fn it_fits_into_80_columns_whatever_the_numbers(lab: Arc<Lab>) -> anyhow::Result<()> {
    let error = "the API says of 100 of 100 orders that it does not know them (404, code 4000): this looks like the wrong \
                 server (api.base_url), banner (api.retailer_id), id space (api.treat_ids_as_internal) or user; nothing of \
                 it was recorded, the orders stay as they were. If it is true nevertheless, raise guard.max_suspicious_share";
    for (minutes, status) in ["failed", "interrupted", "partial", "abandoned", "succeeded"].iter().enumerate() {
        let error = if *status == "failed" { error } else { "" };
        run(&lab, i32::try_from(minutes)?, "startup", status, 1_234_567, error).await?;
    }
    run(&lab, 30, "cron", "succeeded", 0, "").await?;
    sqlx::query(
        "INSERT INTO sync.runs (run_id, trigger, worker, alive_until, status, waiting_for, waiting_until)
         VALUES (gen_random_uuid(), 'manual', 'x', now() + interval '1 minute', 'running',
                 'an answer of the database; another session may have locked a row', now() + interval '9 minutes')",
    )
    .execute(&lab.pool)
    .await?;
    trouble(&lab).await?;
    sqlx::query(
        "INSERT INTO chat.orders (order_id, status, coverage)
         SELECT coverage || n, 'open', coverage
         FROM unnest(ARRAY['captured', 'captured_open', 'no_chat', 'expired_partial', 'expired_unread', 'not_found',
                           'failed']) AS coverage,
              generate_series(1, 1234) AS n",
    )
    .execute(&lab.pool)
    .await?;
    let long = format!(
        "INSERT INTO sync.order_queue (order_id, state, last_error_kind) VALUES ('{}', 'dead', 'not_found_unproven')",
        "x".repeat(500)
    );
    sqlx::query(AssertSqlSafe(long)).execute(&lab.pool).await?;
    for arguments in [&[][..], &["--failing"]] {
        let status = text(&lab, arguments).await?;
        let wide: Vec<&str> = status.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?} in\n{status}");
    }
    Ok(())
}

/// Three failing live orders, two of them alike, and two dead ones.
async fn trouble(lab: &Lab) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, state, last_error_kind, failures, due_at, enqueued_at)
         VALUES ('order-1', 'pending', 'forbidden', 3, now() + interval '1 hour', now() - interval '2 days'),
                ('order-2', 'pending', 'forbidden', 3, now() + interval '1 hour', now() - interval '2 days'),
                ('order-3', 'pending', 'timeout', 3, now() + interval '1 hour', now() - interval '2 days'),
                ('order-4', 'dead', 'forbidden', 8, now(), now() - interval '2 days'),
                ('order-5', 'dead', 'no_user', 1, now(), now() - interval '2 days')",
    )
    .execute(&lab.pool)
    .await?;
    Ok(())
}

/// A run that many minutes ago.
async fn run(lab: &Lab, minutes: i32, trigger: &str, status: &str, claimed: i64, error: &str) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.runs
             (run_id, trigger, worker, started_at, finished_at, alive_until, status, claimed, fetched, closed, failed,
              messages_inserted, lost, error)
         SELECT gen_random_uuid(), $2, 'test', started_at, started_at, now(), $3, $4, $4, $4 / 10, $4 / 10, $4 * 9, 0,
                nullif($5, '')
         FROM (SELECT now() - $1 * interval '1 minute' AS started_at) AS t",
    )
    .bind(minutes)
    .bind(trigger)
    .bind(status)
    .bind(claimed)
    .bind(error)
    .execute(&lab.pool)
    .await?;
    Ok(())
}

async fn text(lab: &Lab, arguments: &[&str]) -> anyhow::Result<String> {
    let arguments: Vec<&str> = ["status"].iter().chain(arguments).copied().collect();
    Ok(Finished::of(lab.with_database(&arguments)).await?.expect_code(0).stdout)
}
