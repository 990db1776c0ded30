//! `chatsync demo` and `simulate`: nothing to configure, nothing left behind, and good manners in pipes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use chatsync::simulator::{self, Options};
use chrono::{TimeDelta, Utc};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{send, write_file};
use crate::support::{Finished, Lab, tests};

tests!(
    the_demo_shows_everything_and_leaves_nothing_behind,
    the_demo_ignores_whatever_is_configured,
    a_user_without_a_name_gets_a_hint,
    a_demo_stopped_while_it_starts_leaves_nothing_behind,
    a_demo_stopped_while_it_syncs_leaves_nothing_behind,
    a_demo_aborted_by_a_second_signal_leaves_nothing_behind,
    a_demo_whose_output_pipe_closes_completes,
    listed_orders_are_csv_that_enqueue_takes,
    a_reader_may_leave_before_the_last_listed_order,
    simulate_says_where_it_listens_serves_and_ends_on_a_signal,
    simulate_reports_an_address_that_is_in_use,
    simulate_has_the_configured_faults_until_they_change,
    simulate_says_what_is_wrong_with_a_fault,
    of_a_lifecycle_only_the_orders_that_are_placed_are_listed,
);

async fn the_demo_shows_everything_and_leaves_nothing_behind(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab)?;
    let finished = Finished::of(place.demo(&lab, "60")).await?.expect_code(0);
    for expected in [
        "60 orders enqueued",
        " partial in ",
        "  lost       ",
        "In real life that is a loss, and `chatsync sync` would exit with 3.",
        " fetched (0 unchanged), ",
        " 0 failed, 0 dead",
        "captured_open",
        "One conversation (chat.messages, chat.users), order ",
        "median time to answer",
        "Everything was removed",
    ] {
        assert!(finished.stdout.contains(expected), "{expected:?} in {}", finished.stdout);
    }
    assert_eq!(finished.stderr, "", "nothing to complain about");
    place.assert_empty()
}

async fn the_demo_ignores_whatever_is_configured(lab: Arc<Lab>) -> anyhow::Result<()> {
    write_file(&lab, "config/local.toml", "[api\nbase_url = 7")?;
    let place = Place::new(&lab)?;
    let mut command = place.demo(&lab, "10");
    command
        .env("DATABASE_URL", "postgres://no-role:nothing@127.0.0.1:1/nowhere")
        .env("CHATSYNC__API__BASE_URL", "not a URL")
        .env("CHATSYNC__NO__SUCH_KEY", "1")
        // Nor does it need anything of the system but PostgreSQL.
        .env("SSL_CERT_FILE", "/nowhere/ca.pem")
        .env("SSL_CERT_DIR", "/nowhere");
    let finished = Finished::of(command).await?.expect_code(0);
    assert!(finished.stdout.contains("10 orders enqueued"), "{}", finished.stdout);
    place.assert_empty()
}

async fn a_user_without_a_name_gets_a_hint(lab: Arc<Lab>) -> anyhow::Result<()> {
    const UNNAMED: u32 = 424_242;
    // Only root can change its user.
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let place = Place::new(&lab)?;
    let program = place.0.join("chatsync");
    std::fs::copy(env!("CARGO_BIN_EXE_chatsync"), &program)?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("HOME", "/root").current_dir("/").uid(UNNAMED).gid(UNNAMED);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    };
    for arguments in [["demo"], ["migrate"]] {
        let finished = Finished::of(command(&arguments)).await?.expect_code(1);
        for advice in ["user id 424242 has no entry in /etc/passwd", "database.url"] {
            assert!(finished.stderr.contains(advice), "{}", finished.stderr);
        }
    }
    // A server that exists already needs no name.
    let mut status = command(&["status"]);
    status.env("DATABASE_URL", "postgres://chatsync@127.0.0.1:1/chatsync");
    let finished = Finished::of(status).await?.expect_code(1);
    assert!(finished.stderr.contains("cannot connect to the database"), "{}", finished.stderr);
    std::fs::remove_file(program)?;
    place.assert_empty()
}

async fn a_demo_stopped_while_it_starts_leaves_nothing_behind(lab: Arc<Lab>) -> anyhow::Result<()> {
    stop_demo(&lab, "Starting PostgreSQL", &[Signal::SIGTERM]).await
}

async fn a_demo_stopped_while_it_syncs_leaves_nothing_behind(lab: Arc<Lab>) -> anyhow::Result<()> {
    stop_demo(&lab, "20000 orders enqueued", &[Signal::SIGTERM]).await
}

async fn a_demo_aborted_by_a_second_signal_leaves_nothing_behind(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Two of the same kind could arrive as one.
    stop_demo(&lab, "20000 orders enqueued", &[Signal::SIGTERM, Signal::SIGINT]).await
}

async fn a_demo_whose_output_pipe_closes_completes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let place = Place::new(&lab)?;
    let mut child = place.demo(&lab, "10").spawn()?;
    drop(child.stdout.take());
    let finished = Finished::of_child(child).await?.expect_code(0);
    assert_eq!(finished.stderr, "");
    place.assert_empty()
}

async fn listed_orders_are_csv_that_enqueue_takes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let arguments = ["simulate", "--list-orders", "--orders", "1000", "--users", "3", "--seed", "5"];
    let listed = Finished::of(lab.command(&arguments)).await?.expect_code(0);
    assert_eq!((listed.stdout.lines().next(), &*listed.stderr), (Some("order_id,connect_user_id"), ""));
    let command = lab.with_database(&["enqueue", "-"]);
    let enqueued = Finished::of_input(command, listed.stdout.as_bytes()).await?.expect_code(0);
    assert_eq!(enqueued.stdout, "1000 added, 0 updated, 0 already known, 0 rejected\n");

    let mut queued: Vec<(String, String)> =
        sqlx::query_as("SELECT order_id, connect_user_id FROM sync.order_queue").fetch_all(&lab.pool).await?;
    let options = Options { orders: 1000, users: 3, seed: 5, ..Options::default() };
    let mut expected: Vec<(String, String)> =
        simulator::orders(&options).map(|order| (order.order_id, order.connect_user_id)).collect();
    queued.sort();
    expected.sort();
    assert_eq!(queued, expected, "ids with commas, slashes and other scripts included");
    Ok(())
}

/// `chatsync simulate --list-orders | head -1`
async fn a_reader_may_leave_before_the_last_listed_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut child = lab.command(&["simulate", "--list-orders", "--orders", "1000000"]).spawn()?;
    let mut stdout = child.stdout.take().context("a pipe")?;
    let mut start = [0; 9];
    stdout.read_exact(&mut start).await?;
    assert_eq!(start, *b"order_id,");
    drop(stdout);
    let finished = Finished::of_child(child).await?.expect_code(0);
    assert_eq!(finished.stderr, "");
    Ok(())
}

async fn simulate_says_where_it_listens_serves_and_ends_on_a_signal(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut child = lab.command(&["simulate", "--listen", "127.0.0.1:0", "--not-found", "0"]).spawn()?;
    let mut lines = lines(&mut child)?;
    let line = wait_for(&mut lines, "listens on").await?;
    let url = line.strip_prefix("the simulated API listens on ").context("an address")?;
    lab.enqueue(&["one", "two"]).await?;
    let report = lab.sync(url, &[]).await?;
    assert_eq!((report.run.counters.fetched, report.run.status.as_str()), (2, "succeeded"));
    send(&child, Signal::SIGTERM)?;
    Finished::of_child(child).await?.expect_code(0);
    Ok(())
}

async fn simulate_has_the_configured_faults_until_they_change(lab: Arc<Lab>) -> anyhow::Result<()> {
    let arguments = ["simulate", "--listen", "127.0.0.1:0", "--not-found", "0", "--fault", "chat.status:403"];
    let mut child = lab.command(&arguments).spawn()?;
    let line = wait_for(&mut lines(&mut child)?, "listens on").await?;
    let url = line.strip_prefix("the simulated API listens on ").context("an address")?;
    lab.enqueue(&["one", "two"]).await?;
    assert_eq!(lab.sync(url, &[]).await?.run.counters.failed, 2);

    let client = reqwest::Client::builder().no_proxy().build()?;
    let faults = client.delete(format!("{url}/_simulator/faults")).send().await?.error_for_status()?.text().await?;
    let faults: serde_json::Value = serde_json::from_str(&faults)?;
    assert_eq!((&faults["faults"], &faults["stats"]["chat_requests"]), (&serde_json::json!([]), &serde_json::json!(2)));
    lab.make_all_due().await?;
    assert_eq!(lab.sync(url, &[]).await?.run.counters.fetched, 2);
    send(&child, Signal::SIGTERM)?;
    Finished::of_child(child).await?.expect_code(0);
    Ok(())
}

async fn simulate_says_what_is_wrong_with_a_fault(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (fault, shown) in [("eror=0.5", "there is no such fault"), ("errors=50", "from 0 to 1")] {
        let refused = Finished::of(lab.command(&["simulate", "--fault", fault])).await?.expect_code(2);
        assert!(refused.stderr.contains(shown), "{}", refused.stderr);
    }
    Ok(())
}

async fn of_a_lifecycle_only_the_orders_that_are_placed_are_listed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let listed = async |epoch: TimeDelta| -> anyhow::Result<String> {
        let epoch = (Utc::now() + epoch).to_rfc3339();
        let arguments = ["simulate", "--list-orders", "--orders", "90", "--lifecycle", "3h", "--epoch", &epoch];
        Ok(Finished::of(lab.command(&arguments)).await?.expect_code(0).stdout)
    };
    assert_eq!(listed(TimeDelta::hours(1)).await?, "order_id,connect_user_id,completed_at\n");
    let all = listed(TimeDelta::hours(-9)).await?;
    let enqueued = Finished::of_input(lab.with_database(&["enqueue", "-"]), all.as_bytes()).await?.expect_code(0);
    assert_eq!(enqueued.stdout, "90 added, 0 updated, 0 already known, 0 rejected\n");
    let completed = "SELECT count(*) FROM sync.order_queue WHERE completed_at < now()";
    assert_eq!(lab.count(completed).await?, 90);
    Ok(())
}

async fn simulate_reports_an_address_that_is_in_use(lab: Arc<Lab>) -> anyhow::Result<()> {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let finished = Finished::of(lab.command(&["simulate", "--listen", &address])).await?.expect_code(1);
    assert!(finished.stderr.contains(&format!("error: cannot listen on {address}: ")), "{}", finished.stderr);
    Ok(())
}

/// Sends signals to a demo once it has printed `moment`.
async fn stop_demo(lab: &Lab, moment: &str, signals: &[Signal]) -> anyhow::Result<()> {
    let place = Place::new(lab)?;
    let mut child = place.demo(lab, "20000").spawn()?;
    let mut lines = lines(&mut child)?;
    wait_for(&mut lines, moment).await?;
    if cfg!(target_os = "linux") && moment.contains("enqueued") {
        assert_ne!(processes_naming(&place.0), [""; 0], "a server is seen while it runs");
    }
    for signal in signals {
        send(&child, *signal)?;
    }
    // A full pipe would hold it up.
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let finished = Finished::of_child(child).await?.expect_code(1);
    reading.await?;
    let reason = match signals.len() {
        1 if moment.contains("enqueued") => "error: interrupted before",
        1 => "error: stopped by a signal",
        _ => "error: aborted by a second signal",
    };
    assert!(finished.stderr.contains(reason), "{}", finished.stderr);
    place.assert_empty()
}

/// A private directory for temporary files.
struct Place(PathBuf);

impl Place {
    /// Readable for all, because as root the server runs under an account that must enter it.
    fn new(lab: &Lab) -> anyhow::Result<Self> {
        let place = lab.home.path().join("tmp");
        std::fs::create_dir(&place)?;
        std::fs::set_permissions(lab.home.path(), PermissionsExt::from_mode(0o755))?;
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o1777))?;
        Ok(Self(place))
    }

    fn demo(&self, lab: &Lab, orders: &str) -> Command {
        let mut command = lab.command(&["demo", "--orders", orders]);
        command.env("TMPDIR", &self.0);
        command
    }

    /// Expects that no file and no process is left.
    fn assert_empty(&self) -> anyhow::Result<()> {
        let left: Vec<PathBuf> =
            std::fs::read_dir(&self.0)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        assert_eq!(left, Vec::<PathBuf>::new(), "files left");
        assert_eq!(processes_naming(&self.0), [""; 0], "processes left");
        Ok(())
    }
}

fn lines(child: &mut Child) -> anyhow::Result<Lines<BufReader<ChildStdout>>> {
    Ok(BufReader::new(child.stdout.take().context("a pipe")?).lines())
}

/// Reads on to a line with `text` in it.
async fn wait_for(lines: &mut Lines<BufReader<ChildStdout>>, text: &str) -> anyhow::Result<String> {
    while let Some(line) = lines.next_line().await? {
        if line.contains(text) {
            return Ok(line);
        }
    }
    anyhow::bail!("it never printed {text:?}")
}

/// Processes started with `path` on their command line, or working below it. None if the system does not show it.
fn processes_naming(path: &Path) -> Vec<String> {
    let path = path.to_string_lossy();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let shown = processes.flatten().filter_map(|process| {
        let command = std::fs::read(process.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let directory = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        Some(format!("{} {command} in {}", process.file_name().display(), directory.display()))
    });
    shown.filter(|shown| shown.contains(&*path)).collect()
}
