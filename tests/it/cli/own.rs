//! The embedded PostgreSQL outside the demo: when it is used, when not, and what restarts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, eventually, tests};
use crate::sync::{Process, behind_a_door};

tests!(
    an_unconfigured_database_is_named,
    commands_that_only_look_make_no_database,
    the_daemon_requires_a_configured_database,
    psql_opens_the_configured_database_and_ends_as_it_does,
    psql_opens_the_embedded_database_and_stops_what_it_started,
    a_killed_server_is_started_again_before_the_next_run,
    a_server_killed_during_a_run_is_started_again_for_it,
);

/// An empty directory that the account of the server can enter.
struct Own(tempfile::TempDir);

impl Own {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir()?;
        std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o755))?;
        Ok(Self(parent))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("own")
    }

    /// The daemon on this database, which is chosen explicitly.
    fn daemon(&self, lab: &Lab, api: &Recorder) -> Command {
        self.worker(lab, api, "run")
    }

    fn worker(&self, lab: &Lab, api: &Recorder, command: &str) -> Command {
        let mut command = self.command(lab, &[command]);
        command
            .env("DATABASE_URL", "embedded")
            .env("CHATSYNC__API__BASE_URL", api.url())
            .env("CHATSYNC__AUTH__MODE", "static_token")
            .env("CHATSYNC__AUTH__TOKEN", "token");
        command
    }

    fn command(&self, lab: &Lab, arguments: &[&str]) -> Command {
        let path = self.path();
        let before = ["--data-dir", path.to_str().expect("UTF-8")];
        lab.command(&before.iter().chain(arguments).copied().collect::<Vec<_>>())
    }
}

async fn an_unconfigured_database_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let own = Own::new()?;
    let shown =
        format!("no database is configured (DATABASE_URL, database.url): using the one in {}", own.path().display());
    let enqueued = Finished::of_input(own.command(&lab, &["enqueue"]), b"A-1\n").await?.expect_code(0);
    assert!(enqueued.stderr.lines().any(|line| line == shown), "{}", enqueued.stderr);
    let mut chosen = own.command(&lab, &["status"]);
    chosen.env("DATABASE_URL", "embedded");
    let status = Finished::of(chosen).await?.expect_code(0);
    assert!(!status.stderr.contains("no database is configured"), "{}", status.stderr);
    assert!(status.stdout.contains("pending"), "{}", status.stdout);
    Ok(())
}

async fn commands_that_only_look_make_no_database(lab: Arc<Lab>) -> anyhow::Result<()> {
    let own = Own::new()?;
    for arguments in [&["status"][..], &["plan"], &["why", "A-1"], &["psql"]] {
        let finished = Finished::of(own.command(&lab, arguments)).await?.expect_code(1);
        let shown = format!("error: there is no database in {}: ", own.path().display());
        assert!(finished.stderr.contains(&shown), "{arguments:?}: {}", finished.stderr);
    }
    assert!(!own.path().exists());
    Ok(())
}

async fn the_daemon_requires_a_configured_database(lab: Arc<Lab>) -> anyhow::Result<()> {
    let own = Own::new()?;
    let mut command = own.command(&lab, &["run"]);
    command.env("CHATSYNC__AUTH__CLIENT_ID", "id").env("CHATSYNC__AUTH__CLIENT_SECRET", "secret");
    let refused = Finished::of(command).await?.expect_code(2);
    assert!(refused.stderr.contains("database.url") && refused.stderr.contains("DATABASE_URL"), "{}", refused.stderr);
    assert!(!own.path().exists());
    Ok(())
}

async fn psql_opens_the_configured_database_and_ends_as_it_does(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["A-1", "A-2"]).await?;
    let query = ["psql", "--", "-XAtc", "SELECT order_id FROM sync.order_queue ORDER BY 1"];
    let shown = Finished::of(lab.with_database(&query)).await?.expect_code(0);
    assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("A-1\nA-2\n", ""));
    let mistake = ["psql", "--", "-X", "-v", "ON_ERROR_STOP=1"];
    Finished::of_input(lab.with_database(&mistake), b"SELECT nothing;\n").await?.expect_code(3);
    let mut without = lab.with_database(&query);
    without.env("PATH", lab.home.path());
    let missing = Finished::of(without).await?.expect_code(1);
    assert!(missing.stderr.contains("psql is not installed"), "{}", missing.stderr);
    Ok(())
}

async fn psql_opens_the_embedded_database_and_stops_what_it_started(lab: Arc<Lab>) -> anyhow::Result<()> {
    let own = Own::new()?;
    Finished::of_input(own.command(&lab, &["enqueue"]), b"A-1\n").await?.expect_code(0);
    let query = ["psql", "--", "-XAtc", "SELECT order_id FROM sync.order_queue"];
    let shown = Finished::of(own.command(&lab, &query)).await?.expect_code(0);
    assert_eq!(shown.stdout, "A-1\n");
    assert!(!own.path().join("data/postmaster.pid").exists());
    Ok(())
}

async fn a_killed_server_is_started_again_before_the_next_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    let own = Own::new()?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let mut command = own.daemon(&lab, &api);
    command.env("CHATSYNC__DATABASE__GIVE_UP_AFTER", "1s").env("CHATSYNC__SCHEDULE__CRON", "* * * * * *");
    let daemon = Process::start(&lab, command)?;
    daemon.logs("run finished").await?;
    let killed = postmaster(&own.path())?;
    kill(Pid::from_raw(killed), Signal::SIGKILL)?;
    eventually("another server runs", async || Ok(postmaster(&own.path()).ok().filter(|process| *process != killed)))
        .await?;
    Finished::of_input(own.command(&lab, &["enqueue"]), b"A-1\n").await?.expect_code(0);
    eventually("the daemon asks for the order", async || Ok((!api.asked().is_empty()).then_some(()))).await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(log.contains("the embedded PostgreSQL has stopped, starting it again"), "{log}");
    Ok(())
}

async fn a_server_killed_during_a_run_is_started_again_for_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    for command in ["run", "sync"] {
        let own = Own::new()?;
        Finished::of_input(own.command(&lab, &["enqueue"]), b"A-1\n").await?.expect_code(0);
        let (door, api) = behind_a_door().await;
        let mut worker = own.worker(&lab, &api, command);
        worker.env("CHATSYNC__SCHEDULE__RUN_ON_START", "true").env("CHATSYNC__SCHEDULE__CRON", "0 0 0 29 2 *");
        let worker = Process::start(&lab, worker)?;
        door.arrivals(1).await;
        kill_server(&own.path())?;
        door.open();
        worker.logs("the embedded PostgreSQL has stopped, starting it again").await?;
        worker.logs("run finished").await?;
        if command == "run" {
            worker.send(Signal::SIGTERM)?;
        }
        let log = worker.ends_with(0).await?;
        assert!(log.contains("the database is back") && log.contains("claimed=1 fetched=1"), "{log}");
    }
    Ok(())
}

/// Kills a server with its sessions, which would go on for a moment.
fn kill_server(own: &Path) -> anyhow::Result<()> {
    let server = postmaster(own)?;
    let is_child = |process: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1).is_some_and(|parent| parent == server.to_string())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let sessions: Vec<i32> = ids.filter(is_child).collect();
    kill(Pid::from_raw(server), Signal::SIGKILL)?;
    for session in sessions {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(session), Signal::SIGKILL);
    }
    Ok(())
}

fn postmaster(own: &Path) -> anyhow::Result<i32> {
    let file = std::fs::read(own.join("data/postmaster.pid"))?;
    Ok(String::from_utf8_lossy(&file).lines().next().unwrap_or_default().parse()?)
}
