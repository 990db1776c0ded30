//! Standard error and terminals: readers that do not read.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use crate::support::http::Recorder;
use crate::support::{Lab, tests};
use crate::sync::{FOUND_LOSSES, PATIENCE, feed, simulated, until};

tests!(
    a_log_that_nobody_reads_does_not_stop_a_sync,
    lines_that_nobody_read_are_counted_once_somebody_reads,
    a_terminal_that_nobody_reads_does_not_stop_a_sync,
);

/// Megabytes of them.
const CHATTY: (&str, &str) = ("log.level", "trace");
const CHATTY_LIBRARIES: (&str, &str) = ("log.level", "trace,chatsync=trace");

async fn a_log_that_nobody_reads_does_not_stop_a_sync(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 2_000).await?;
    let api = Recorder::start(simulated).await;
    let mut sync = lab.configured(&["sync"], api.url(), &[CHATTY_LIBRARIES]).spawn()?;
    let mut unread = sync.stderr.take().context("a pipe")?;
    let ended = timeout(PATIENCE, sync.wait()).await.context("it waits for a reader")??;
    assert_eq!(ended.code(), Some(FOUND_LOSSES));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 2_000);
    let mut log = Vec::new();
    unread.read_to_end(&mut log).await?;
    // Its pages may have been filled in part.
    assert!(log.len() > 32_768, "the pipe was full: {}", log.len());
    Ok(())
}

async fn lines_that_nobody_read_are_counted_once_somebody_reads(lab: Arc<Lab>) -> anyhow::Result<()> {
    for format in ["text", "json"] {
        sqlx::query("DELETE FROM chat.orders").execute(&lab.pool).await?;
        sqlx::query("DELETE FROM sync.order_queue").execute(&lab.pool).await?;
        feed(&lab, 2_000).await?;
        let api = Recorder::start(simulated).await;
        let more = [CHATTY_LIBRARIES, ("log.format", format), ("schedule.run_on_start", "true")];
        let mut daemon = lab.configured(&["run"], api.url(), &more).spawn()?;
        let mut lines = BufReader::new(daemon.stderr.take().context("a pipe")?).lines();
        until(&lab, "SELECT count(*) = 2000 FROM chat.orders").await?;
        let (mut before, mut dropped) = (0_u64, None);
        while dropped.is_none() {
            let line = timeout(PATIENCE, lines.next_line()).await??.context("a line")?;
            before += 1;
            if line.contains("log lines were dropped") {
                let count = line.split("dropped").find_map(|part| {
                    let digits: String = part.chars().filter(char::is_ascii_digit).collect();
                    part.starts_with(['=', '"', '\x1b']).then(|| digits.parse::<u64>().ok()).flatten()
                });
                dropped = Some(count.with_context(|| line)?);
            }
        }
        assert!(before > 500, "what was written before the buffer was full comes first: {before}");
        assert!(dropped > Some(0), "{dropped:?}");
        kill(Pid::from_raw(daemon.id().context("it runs")?.try_into()?), Signal::SIGTERM)?;
        let mut rest = String::new();
        while let Some(line) = timeout(PATIENCE, lines.next_line()).await?? {
            rest += &line;
        }
        assert!(rest.contains("stopped"), "nothing is lost at the end: {rest}");
        assert_eq!(daemon.wait().await?.code(), Some(0));
    }
    Ok(())
}

async fn a_terminal_that_nobody_reads_does_not_stop_a_sync(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 2_000).await?;
    let api = Recorder::start(simulated).await;
    let mut command = lab.configured(&["sync"], api.url(), &[CHATTY]);
    command.env("TERM", "xterm");
    let terminal = openpty(None, None)?;
    let mut sync = command.stderr(Stdio::from(terminal.slave)).spawn()?;
    let ended = timeout(PATIENCE, sync.wait()).await.context("it waits for a reader")??;
    assert_eq!(ended.code(), Some(FOUND_LOSSES));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 2_000);
    drop(terminal.master);
    Ok(())
}
