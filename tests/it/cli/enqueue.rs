//! `chatsync enqueue`: what its options do to new and known orders, and large, endless and unread streams.

use std::io::{BufWriter, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use sqlx::AssertSqlSafe;
use tokio::io::AsyncWriteExt as _;

use super::{send, write_file};
use crate::support::{Finished, Lab, eventually, tests};

tests!(
    the_default_user_is_for_lines_that_name_none,
    internal_ids_and_priority_apply_to_every_line_that_does_not_say_otherwise,
    a_known_order_learns_when_it_was_completed_and_keeps_the_rest,
    reopen_puts_finished_orders_back_with_their_new_user,
    plain_sql_feeds_the_queue_as_well,
    a_million_lines_need_little_memory,
    a_signal_ends_the_wait_for_standard_input,
    unread_error_output_does_not_stop_enqueue,
);

async fn the_default_user_is_for_lines_that_name_none(lab: Arc<Lab>) -> anyhow::Result<()> {
    let csv = "order_id,connect_user_id\nhers,user-7\nno-user,\n";
    let command = lab.with_database(&["enqueue", "--user-id", "user-1"]);
    Finished::of_input(command, csv.as_bytes()).await?.expect_code(0);
    assert_eq!(queue(&lab, "connect_user_id").await?, ["hers user-7", "no-user user-1"]);
    Ok(())
}

async fn internal_ids_and_priority_apply_to_every_line_that_does_not_say_otherwise(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    let json = "{\"order_id\":\"plain\"}\n{\"order_id\":\"special\",\"priority\":9,\"ids_internal\":false}\n";
    let command = lab.with_database(&["enqueue", "--internal-ids", "--priority", "-5"]);
    Finished::of_input(command, json.as_bytes()).await?.expect_code(0);
    assert_eq!(queue(&lab, "concat(priority, ' ', ids_internal)").await?, ["plain -5 t", "special 9 f"]);
    Ok(())
}

async fn a_known_order_learns_when_it_was_completed_and_keeps_the_rest(lab: Arc<Lab>) -> anyhow::Result<()> {
    Finished::of_input(lab.with_database(&["enqueue", "--user-id", "user-1"]), b"order").await?.expect_code(0);
    let csv = "order_id,connect_user_id,completed_at,priority\norder,user-2,2026-01-31T10:00:00-08:00,3\n";
    let again = Finished::of_input(lab.with_database(&["enqueue"]), csv.as_bytes()).await?.expect_code(0);
    assert_eq!(again.stdout, "0 added, 1 updated, 0 already known, 0 rejected\n");
    let facts = "concat_ws(' ', connect_user_id, priority, completed_at AT TIME ZONE 'UTC')";
    assert_eq!(queue(&lab, facts).await?, ["order user-1 0 2026-01-31 18:00:00"]);
    Ok(())
}

async fn reopen_puts_finished_orders_back_with_their_new_user(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, connect_user_id, state, failures, due_at, last_fetched_at)
         VALUES ('closed', 'old', 'closed', 0, now() + interval '1 day', NULL),
                ('dead', 'old', 'dead', 8, now() + interval '1 day', NULL),
                ('expired', 'old', 'expired', 0, now() + interval '1 day', now()),
                ('other', 'old', 'closed', 0, now() + interval '1 day', NULL)",
    )
    .execute(&lab.pool)
    .await?;
    let ids = b"closed\ndead\nexpired\n";
    let without = Finished::of_input(lab.with_database(&["enqueue", "--user-id", "new"]), ids).await?.expect_code(0);
    assert_eq!(without.stdout, "0 added, 0 updated, 3 already known, 0 rejected\n");
    let facts = "concat_ws(' ', state, connect_user_id, failures, due_at <= now())";
    assert_eq!(
        queue(&lab, facts).await?,
        ["closed closed old 0 f", "dead dead old 8 f", "expired expired old 0 f", "other closed old 0 f"]
    );

    let command = lab.with_database(&["enqueue", "--user-id", "new", "--reopen"]);
    let reopened = Finished::of_input(command, ids).await?.expect_code(0);
    assert_eq!(reopened.stdout, "0 added, 3 put back, 0 already known, 0 rejected\n");
    assert_eq!(
        queue(&lab, facts).await?,
        ["closed pending new 0 t", "dead pending new 0 t", "expired open new 0 t", "other closed old 0 f"]
    );
    Ok(())
}

async fn plain_sql_feeds_the_queue_as_well(lab: Arc<Lab>) -> anyhow::Result<()> {
    for _ in 0..2 {
        sqlx::query(
            "INSERT INTO sync.order_queue (order_id, connect_user_id)
             VALUES ('one', 'user-1'), ('two', 'user-2') ON CONFLICT DO NOTHING",
        )
        .execute(&lab.pool)
        .await?;
    }
    let status = Finished::of(lab.with_database(&["status", "--json"])).await?.expect_code(0);
    let status = super::only_json(&status)?;
    assert_eq!((&status["queue"]["pending"], &status["due"]), (&2.into(), &2.into()), "{status}");
    Ok(())
}

async fn a_million_lines_need_little_memory(lab: Arc<Lab>) -> anyhow::Result<()> {
    let path = lab.home.path().join("orders.txt");
    let mut file = BufWriter::new(std::fs::File::create(&path)?);
    for line in 1..=1_000_000 {
        // Every hundred-thousandth is no order id.
        if line % 100_000 == 7 { writeln!(file, "..")? } else { writeln!(file, "order-{line}")? }
    }
    file.into_inner()?.sync_data()?;
    let path = path.to_str().expect("a path in UTF-8");

    for expected in [
        "999990 added, 0 updated, 0 already known, 10 rejected\n",
        "0 added, 0 updated, 999990 already known, 10 rejected\n",
    ] {
        let child = lab.with_database(&["enqueue", path]).spawn()?;
        let process = child.id().context("it has ended already")?;
        let (finished, peak) = tokio::join!(Finished::of_child(child), peak_memory(process));
        let finished = finished?.expect_code(3);
        assert_eq!(finished.stdout, expected);
        let complaints = finished.stderr.lines().filter(|line| line.starts_with("line "));
        let complaints: Vec<&str> = complaints.filter_map(|line| line.split(':').next()).collect();
        assert_eq!(complaints.len(), 10, "{}", finished.stderr);
        assert_eq!((complaints[0], complaints[9]), ("line 7", "line 900007"));
        if cfg!(target_os = "linux") {
            assert!((1..64 * 1024).contains(&peak), "{peak} KiB at most");
        }
    }
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue").await?, 999_990);
    Ok(())
}

async fn a_signal_ends_the_wait_for_standard_input(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut child = lab.with_database(&["enqueue"]).stdin(Stdio::piped()).spawn()?;
    let mut silent = child.stdin.take().context("a pipe")?;
    let lines: Vec<String> = (0..20_000).map(|line| format!("order-{line}\n")).collect();
    silent.write_all(lines.concat().as_bytes()).await?;
    eventually("some are added; of the rest a part is read, and then nothing comes any more", async || {
        let added = lab.count("SELECT count(*) FROM sync.order_queue").await?;
        Ok(Some(added).filter(|added| *added > 0))
    })
    .await?;
    send(&child, Signal::SIGTERM)?;
    let finished = Finished::of_child(child).await?.expect_code(1);
    assert!(finished.stderr.contains("feed the rest again: stopped by a signal before the end"), "{}", finished.stderr);
    drop(silent);
    Ok(())
}

/// `chatsync enqueue … 2>&1 | head -1`
async fn unread_error_output_does_not_stop_enqueue(lab: Arc<Lab>) -> anyhow::Result<()> {
    let path =
        write_file(&lab, "orders.csv", "order_id,priority\n".to_owned() + &"..,1\n".repeat(20_000) + "good,1\n")?;
    let mut child = lab.with_database(&["enqueue", &path]).spawn()?;
    drop(child.stderr.take());
    let finished = Finished::of_child(child).await?.expect_code(3);
    assert_eq!(finished.stdout, "1 added, 0 updated, 0 already known, 20000 rejected\n");
    Ok(())
}

/// An expression over each row of the queue, behind its order id.
async fn queue(lab: &Lab, expression: &str) -> anyhow::Result<Vec<String>> {
    let query = format!("SELECT concat(order_id, ' ', {expression}) FROM sync.order_queue ORDER BY order_id");
    Ok(sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&lab.pool).await?)
}

/// The peak memory of a process in KiB, watched until it ends. 0 if the system does not show it.
async fn peak_memory(process: u32) -> u64 {
    let mut peak = 0;
    // An ended process has no such line, even before it is waited for.
    while let Some(now) = high_water_mark(process) {
        peak = now;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    peak
}

fn high_water_mark(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
