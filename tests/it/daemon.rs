//! `chatsync run`: the real binary on its own schedule, with signals and outages.
//!
//! Schedules tick every second or almost never. The tests observe the daemon in the database and in its log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chatsync::simulator;
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::cli::write_file;
use crate::support::http::{Answer, Recorder};
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Lab, tests};
use crate::sync::{Process, behind_a_door, execute, feed, simulated, until};

tests!(
    orders_enqueued_between_runs_are_read_at_a_tick,
    sigterm_finishes_what_is_in_flight_and_releases_the_rest,
    sigint_finishes_what_is_in_flight_and_releases_the_rest,
    a_signal_does_not_wait_for_replies_that_never_come,
    a_signal_between_runs_ends_the_daemon_immediately,
    a_second_signal_aborts_and_the_leases_expire,
    two_sigterms_of_one_moment_count_as_one,
    a_sigterm_after_a_second_aborts,
    an_ignored_hangup_stays_ignored,
    one_signal_ends_the_wait_for_a_database_that_does_not_answer,
    a_tick_during_a_run_is_skipped,
    run_on_start_runs_immediately,
    a_tick_missed_while_the_daemon_was_down_is_caught_up,
    nothing_is_caught_up_if_no_tick_was_missed,
    nothing_is_caught_up_if_catch_up_is_off,
    nothing_is_caught_up_before_the_first_run,
    a_failed_run_is_retried_at_the_next_tick,
    a_locked_order_does_not_block_the_others,
    lost_database_connections_are_replaced,
    a_rotated_token_needs_no_restart,
    a_rotated_client_secret_needs_no_restart,
    a_rotated_database_url_needs_no_restart,
);

const EVERY_SECOND: (&str, &str) = ("schedule.cron", "* * * * * *");
/// On 29 February.
const HARDLY_EVER: (&str, &str) = ("schedule.cron", "0 0 0 29 2 *");
const AT_ONCE: (&str, &str) = ("schedule.run_on_start", "true");

async fn orders_enqueued_between_runs_are_read_at_a_tick(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = simulator::Options { not_found_share: 0.0, expired_share: 0.0, ..simulator::Options::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options).await?;
    lab.enqueue(&["first"]).await?;
    let daemon = start(&lab, &api.base_url(), &[EVERY_SECOND, ("database.max_connections", "1")])?;
    for order in ["first", "second", "third"] {
        lab.enqueue(&[order]).await?;
        until(&lab, &format!("SELECT status = 'open' FROM chat.orders WHERE order_id = '{order}'")).await?;
    }
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    // The signal may have hit a run, even one that had just written the third order.
    let others = "SELECT count(*) FROM sync.runs WHERE trigger <> 'cron' OR status NOT IN ('succeeded', 'interrupted')";
    assert_eq!(lab.count(others).await?, 0);
    assert_eq!(api.stats().chat_requests, 3);
    Ok(())
}

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
    assert_eq!(lab.sync(api.url(), &[short]).await?.run.claimed, 10);
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
    assert_eq!(lab.sync(api.url(), &[short]).await?.run.claimed, 1);
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

async fn a_tick_during_a_run_is_skipped(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let (door, api) = behind_a_door().await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND])?;
    door.arrivals(1).await;
    daemon.logs("tick skipped").await?;
    assert_eq!(lab.text("SELECT string_agg(status, ' ') FROM sync.runs").await?.as_deref(), Some("running"));
    door.open();
    until(&lab, "SELECT count(*) >= 2 FROM sync.runs WHERE status = 'succeeded'").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    let overlapping = "SELECT count(*) FROM sync.runs AS one JOIN sync.runs AS other ON one.run_id <> other.run_id
                       WHERE one.started_at <= other.started_at AND one.finished_at > other.started_at";
    assert_eq!(lab.count(overlapping).await?, 0);
    Ok(())
}

async fn run_on_start_runs_immediately(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER, AT_ONCE])?;
    until(&lab, "SELECT status = 'succeeded' FROM sync.runs").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.text(RUNS).await?.as_deref(), Some("startup 1"));
    Ok(())
}

async fn a_tick_missed_while_the_daemon_was_down_is_caught_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    // More than a leap year cycle ago, so that there was a 29 February.
    an_earlier_run(&lab).await?;
    execute(&lab, "UPDATE sync.runs SET started_at = now() - interval '9 years'").await?;
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER])?;
    until(&lab, "SELECT count(*) = 2 FROM sync.runs WHERE status = 'succeeded'").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.text(RUNS).await?.as_deref(), Some("manual 0, startup 1"));
    Ok(())
}

async fn nothing_is_caught_up_if_no_tick_was_missed(lab: Arc<Lab>) -> anyhow::Result<()> {
    an_earlier_run(&lab).await?;
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER])?;
    daemon.logs("next run").await?;
    // A run at the start would have a row before the daemon handles signals.
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.text(RUNS).await?.as_deref(), Some("manual 0"));
    Ok(())
}

async fn nothing_is_caught_up_if_catch_up_is_off(lab: Arc<Lab>) -> anyhow::Result<()> {
    an_earlier_run(&lab).await?;
    execute(&lab, "UPDATE sync.runs SET started_at = now() - interval '1 day'").await?;
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("schedule.catch_up", "false")])?;
    until(&lab, "SELECT count(*) = 1 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.count("SELECT count(*) FROM sync.runs WHERE trigger = 'startup'").await?, 0);
    assert!(lab.count("SELECT count(*) FROM sync.runs WHERE trigger = 'cron'").await? > 0);
    Ok(())
}

async fn nothing_is_caught_up_before_the_first_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("schedule.catch_up", "true")])?;
    until(&lab, "SELECT count(*) = 1 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    let first = "SELECT trigger || ' ' || claimed FROM sync.runs ORDER BY started_at LIMIT 1";
    assert_eq!(lab.text(first).await?.as_deref(), Some("cron 1"));
    Ok(())
}

async fn a_failed_run_is_retried_at_the_next_tick(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 20).await?;
    let is_refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&is_refusing);
    let api = Recorder::start(
        move |asked| {
            if refuses.load(Ordering::SeqCst) { Answer::new(401, "{}") } else { simulated(asked) }
        },
    );
    let api = api.await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND])?;
    until(&lab, "SELECT count(*) >= 2 FROM sync.runs WHERE status = 'failed' AND error LIKE '%401%'").await?;
    let unharmed = "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND failures = 0";
    assert_eq!(lab.count(unharmed).await?, 20);
    is_refusing.store(false, Ordering::SeqCst);
    until(&lab, "SELECT count(*) = 1 FROM sync.runs WHERE status = 'succeeded' AND claimed = 20").await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(log.contains("the run could not proceed"), "{log}");
    Ok(())
}

async fn a_locked_order_does_not_block_the_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    // As after a clock was set back by an hour and the worker died.
    lab.enqueue(&["leased"]).await?;
    execute(&lab, "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = now() + interval '1 hour'")
        .await?;
    lab.enqueue(&["locked"]).await?;
    let mut session = lab.pool.begin().await?;
    sqlx::query("UPDATE sync.order_queue SET priority = 9 WHERE order_id = 'locked'").execute(&mut *session).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("queue.lease", "1s")])?;
    daemon.logs("left to a later run").await?;
    until(&lab, "SELECT count(*) > 0 FROM sync.runs WHERE status = 'partial' AND claimed = 0").await?;
    lab.enqueue(&["later"]).await?;
    until(&lab, "SELECT count(*) = 2 FROM chat.orders WHERE order_id IN ('leased', 'later')").await?;
    session.commit().await?;
    until(&lab, "SELECT count(*) = 3 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(log.contains("these sessions may have locked the orders that are waited for holders=pid "), "{log}");
    Ok(())
}

async fn lost_database_connections_are_replaced(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["before"]).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND])?;
    until(&lab, "SELECT count(*) = 1 FROM sync.runs WHERE status = 'succeeded' AND claimed = 1").await?;
    execute(
        &lab,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'chatsync/%'",
    )
    .await?;
    lab.enqueue(&["after"]).await?;
    until(&lab, "SELECT count(*) = 2 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    Ok(())
}

async fn a_rotated_token_needs_no_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let token = write_file(&lab, "token", "\u{feff}first-token\n")?;
    let good = Arc::new(Mutex::new("Bearer first-token"));
    let is_good = Arc::clone(&good);
    let api = Recorder::start(move |asked| {
        let token = asked.header("authorization").unwrap_or_default();
        if token == *is_good.lock().expect("not poisoned") { simulated(asked) } else { Answer::new(401, "{}") }
    });
    let api = api.await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("auth.token", ""), ("auth.token_file", &token)])?;
    read_before_and_after(&lab, || {
        *good.lock().expect("not poisoned") = "Bearer second-token";
        write_file(&lab, "token", "\u{feff}second-token\r\n").map(drop)
    })
    .await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(!log.contains("-token"), "{log}");
    Ok(())
}

async fn a_rotated_client_secret_needs_no_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let secret = write_file(&lab, "secret", "first-secret")?;
    // The server refuses the client in either way. No token outlives an order.
    for (refusal, rotated) in [(Answer::new(401, "{}"), "second"), (invalid_client(), "third")] {
        let good = Arc::new(Mutex::new(std::fs::read_to_string(lab.home.path().join(&secret))?));
        let is_good = Arc::clone(&good);
        let api = Recorder::start(move |asked| {
            if !asked.is_token_request() {
                return simulated(asked);
            }
            let is_good = asked.json()["client_secret"] == **is_good.lock().expect("not poisoned");
            if is_good { Answer::token("a-token") } else { refusal.clone() }
        });
        let api = api.await;
        let mode = [("auth.mode", "user_assertion"), ("auth.client_id", "me"), ("auth.client_secret_file", &secret)];
        let daemon = start(&lab, api.url(), &[&mode[..], &[EVERY_SECOND]].concat())?;
        read_before_and_after(&lab, || {
            let new = format!("{rotated}-secret");
            new.clone_into(&mut good.lock().expect("not poisoned"));
            write_file(&lab, "secret", &new).map(drop)
        })
        .await?;
        daemon.send(Signal::SIGTERM)?;
        let log = daemon.ends_with(0).await?;
        assert!(!log.contains("-secret"), "{log}");
    }
    Ok(())
}

async fn a_rotated_database_url_needs_no_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::start(lab.url())?;
    // Stands for a password: it is sent at log-in.
    let with_key = |key: &str| {
        let mut url = url::Url::parse(proxy.url())?;
        let others = url.query().unwrap_or_default();
        let query = format!("{others}&sslmode=disable&options=-c%20chatsync.key%3D{key}");
        url.set_query(Some(query.trim_start_matches('&')));
        anyhow::Ok(url.to_string())
    };
    let url = write_file(&lab, "url", with_key("first")?)?;
    let api = Recorder::start(simulated).await;
    let without = ("database.url", "");
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, without, ("database.url_file", &url)])?;
    read_before_and_after(&lab, || {
        write_file(&lab, "url", format!("{}\n", with_key("second")?))?;
        proxy.refuse_log_ins_with("chatsync.key=first");
        proxy.cut(Ending::Rst);
        Ok(())
    })
    .await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    Ok(())
}

/// Reads an order, rotates the secret, and reads another order.
async fn read_before_and_after(lab: &Lab, rotate: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = uuid::Uuid::new_v4().simple().to_string();
    let read = |order: String| async move {
        // Another user each time, so that each needs a new token.
        sqlx::query("INSERT INTO sync.order_queue (order_id, connect_user_id) VALUES ($1, $1)")
            .bind(&order)
            .execute(&lab.pool)
            .await?;
        until(lab, &format!("SELECT count(*) = 1 FROM chat.orders WHERE order_id = '{order}'")).await
    };
    read(format!("before-{name}")).await?;
    rotate()?;
    read(format!("after-{name}")).await
}

fn invalid_client() -> Answer {
    Answer::json(400, &serde_json::json!({"error": "invalid_client"}))
}

fn start(lab: &Lab, base_url: &str, more: &[(&str, &str)]) -> anyhow::Result<Process> {
    Process::start(lab, lab.configured(&["run"], base_url, more))
}

/// Selects triggers and claims of all runs, earliest first.
const RUNS: &str = "SELECT string_agg(trigger || ' ' || claimed, ', ' ORDER BY started_at) FROM sync.runs";

/// Does a run that finds nothing to do.
async fn an_earlier_run(lab: &Lab) -> anyhow::Result<()> {
    lab.sync("http://127.0.0.1:9", &[]).await?;
    Ok(())
}
