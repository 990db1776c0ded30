//! How signals end the daemon, and other commands that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::process::Command;

use super::{AT_ONCE, EVERY_SECOND, HARDLY_EVER, start};
use crate::support::http::Recorder;
use crate::support::{Lab, tests};
use crate::sync::{Process, behind_a_door, feed, simulated, until};

tests!(
    sigterm_finishes_what_is_in_flight_and_releases_the_rest,
    sigint_finishes_what_is_in_flight_and_releases_the_rest,
    a_signal_does_not_wait_for_replies_that_never_come,
    a_signal_between_runs_ends_the_daemon_immediately,
    a_second_signal_aborts_and_the_leases_expire,
    two_sigterms_of_one_moment_count_as_one,
    a_sigterm_after_a_second_aborts,
    an_ignored_hangup_stays_ignored,
    one_signal_ends_the_wait_for_a_database_that_does_not_answer,
);

async fn sigterm_finishes_what_is_in_flight_and_releases_the_rest(lab: Arc<Lab>) -> anyhow::Result<()> {
    stop_in_the_middle(&lab, Signal::SIGTERM).await
}

async fn sigint_finishes_what_is_in_flight_and_releases_the_rest(lab: Arc<Lab>) -> anyhow::Result<()> {
    stop_in_the_middle(&lab, Signal::SIGINT).await
}

async fn stop_in_the_middle(lab: &Lab, signal: Signal) -> anyhow::Result<()> {
    feed(lab, 100).await?;
    let (door, api) = behind_a_door().await;
    let daemon = start(lab, api.url(), &[HARDLY_EVER, AT_ONCE, ("pace.max_in_flight", "4")])?;
    door.arrivals(4).await;
    daemon.send(signal)?;
    daemon.logs("signal received").await?;
    door.open();
    daemon.ends_with(0).await?;

    assert_eq!(api.chat_requests().len(), 4);
    let run =
        "SELECT concat_ws(' ', status, claimed, fetched + closed, requests, finished_at IS NOT NULL) FROM sync.runs";
    assert_eq!(lab.text(run).await?.as_deref(), Some("interrupted 4 4 4 t"));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 4);
    assert_eq!(lab.leases_left().await?, 0);
    let left = "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND failures = 0 AND due_at <= now()";
    assert_eq!(lab.count(left).await?, 96);
    Ok(())
}

async fn a_signal_does_not_wait_for_replies_that_never_come(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 10).await?;
    let (door, api) = behind_a_door().await;
    let settings = [HARDLY_EVER, AT_ONCE, ("pace.max_in_flight", "4"), ("api.timeout", "10m")];
    let daemon = start(&lab, api.url(), &settings)?;
    door.arrivals(4).await;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(log.contains("claimed orders released"), "{log}");
    let left = "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND lease_id IS NULL";
    assert_eq!(lab.count(left).await?, 10);
    Ok(())
}

async fn a_signal_between_runs_ends_the_daemon_immediately(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER])?;
    daemon.logs("next run").await?;
    let signalled = Instant::now();
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert!(signalled.elapsed() < Duration::from_secs(10), "it took {:?}", signalled.elapsed());
    assert_eq!(lab.count("SELECT count(*) FROM sync.runs").await?, 0);
    Ok(())
}

async fn a_second_signal_aborts_and_the_leases_expire(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 10).await?;
    let (door, api) = behind_a_door().await;
    let short = ("queue.lease", "1s");
    let daemon = start(&lab, api.url(), &[HARDLY_EVER, AT_ONCE, short])?;
    door.arrivals(10).await;
    daemon.send(Signal::SIGTERM)?;
    daemon.logs("signal received").await?;
    let signalled = Instant::now();
    daemon.send(Signal::SIGINT)?;
    let log = daemon.ends_with(1).await?;
    // Far below api.timeout, for which the first signal would have waited.
    assert!(signalled.elapsed() < Duration::from_secs(10), "it took {:?}", signalled.elapsed());
    assert!(log.contains("error: aborted by a second signal"), "{log}");
    assert_eq!(lab.leases_left().await?, 10);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 0);

    door.open();
    assert_eq!(lab.sync(api.url(), &[short]).await?.run.counters.claimed, 10);
    Ok(())
}

async fn two_sigterms_of_one_moment_count_as_one(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 10).await?;
    let (door, api) = behind_a_door().await;
    let mut daemon = start(&lab, api.url(), &[HARDLY_EVER, AT_ONCE])?;
    door.arrivals(10).await;
    let first = Instant::now();
    daemon.send(Signal::SIGTERM)?;
    daemon.logs("signal received").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.send(Signal::SIGHUP)?;
    assert!(
        first.elapsed() < Duration::from_millis(900),
        "the machine is too slow for this test: {:?}",
        first.elapsed()
    );
    // An abort would have ended by then.
    until(&lab, "SELECT now() > started_at + interval '2 seconds' FROM sync.runs").await?;
    assert!(!daemon.has_ended()?);
    door.open();
    daemon.ends_with(0).await?;
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 10);
    Ok(())
}

async fn a_sigterm_after_a_second_aborts(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let (door, api) = behind_a_door().await;
    let short = ("queue.lease", "1s");
    let mut daemon = start(&lab, api.url(), &[HARDLY_EVER, AT_ONCE, short])?;
    door.arrivals(1).await;
    let first = Instant::now();
    while !daemon.has_ended()? {
        // It may end between the check and the signal.
        let _ = daemon.send(Signal::SIGTERM);
        tokio::time::sleep(Duration::from_millis(50)).await;
        anyhow::ensure!(first.elapsed() < Duration::from_secs(20), "it does not end");
    }
    assert!(first.elapsed() >= Duration::from_secs(1), "{:?}", first.elapsed());
    let log = daemon.ends_with(1).await?;
    assert!(log.contains("error: aborted by a second signal"), "{log}");
    door.open();
    assert_eq!(lab.sync(api.url(), &[short]).await?.run.counters.claimed, 1);
    Ok(())
}

async fn an_ignored_hangup_stays_ignored(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    // The tests may run under nohup themselves: children inherit that, and no shell can undo it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0").trim();
    if u64::from_str_radix(ignored, 16)? & 1 == 0 {
        let daemon = start(&lab, api.url(), &[HARDLY_EVER])?;
        daemon.logs("next run").await?;
        daemon.send(Signal::SIGHUP)?;
        daemon.ends_with(0).await?;
    }

    let command = lab.configured(&["run"], api.url(), &[EVERY_SECOND]);
    // As nohup would start it.
    let daemon = Process::start(&lab, by_shell(r#"trap "" HUP; exec "$0" "$@""#, &command))?;
    daemon.logs("next run").await?;
    daemon.send(Signal::SIGHUP)?;
    lab.enqueue(&["later"]).await?;
    until(&lab, "SELECT count(*) = 1 FROM chat.orders WHERE order_id = 'later'").await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert_eq!(log.matches("signal received").count(), 1, "{log}");
    Ok(())
}

/// Returns the same command, started by a shell script that gets it as arguments.
fn by_shell(script: &str, command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().expect("the lab's home")).kill_on_drop(true);
    shell
}

async fn one_signal_ends_the_wait_for_a_database_that_does_not_answer(lab: Arc<Lab>) -> anyhow::Result<()> {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let nowhere = format!("postgres://chatsync@{}/chatsync", silent.local_addr()?);
    for arguments in [&["run"][..], &["sync"], &["status"], &["migrate"], &["plan"]] {
        let command = lab.configured(arguments, "http://127.0.0.1:9", &[HARDLY_EVER, ("database.url", &nowhere)]);
        let process = Process::start(&lab, command)?;
        let (_connection, _) = silent.accept().await?;
        let signalled = Instant::now();
        process.send(Signal::SIGTERM)?;
        // The daemon ends as requested and has left nothing undone.
        let code = i32::from(arguments != ["run"]);
        let log = process.ends_with(code).await?;
        assert!(code == 0 || log.contains("error: stopped by a signal"), "{log}");
        // Without the signal it would give up after ten seconds.
        assert!(signalled.elapsed() < Duration::from_secs(8), "{arguments:?} took {:?}", signalled.elapsed());
    }
    Ok(())
}
