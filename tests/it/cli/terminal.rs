//! Standard error and terminals: unread pipes, colours, empty variables.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, PATIENCE, tests};
use crate::sync::{FOUND_LOSSES, Process, behind_a_door, feed, simulated, until};

tests!(
    an_unread_log_does_not_stop_a_sync,
    dropped_log_lines_are_counted_once_the_log_is_read,
    an_unread_terminal_does_not_stop_a_sync,
    a_closed_terminal_does_not_stop_a_sync,
    colours_are_for_terminals_whose_users_want_them,
    empty_variables_are_unset_for_libraries_too,
    what_a_terminal_would_act_on_or_hide_is_escaped_everywhere,
);

/// Megabytes of log.
const CHATTY: (&str, &str) = ("log.level", "trace");
const CHATTY_LIBRARIES: (&str, &str) = ("log.level", "trace,chatsync=trace");

async fn an_unread_log_does_not_stop_a_sync(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 2_000).await?;
    let api = Recorder::start(simulated).await;
    let mut sync = lab.configured(&["sync"], api.url(), &[CHATTY_LIBRARIES]).spawn()?;
    let mut unread = sync.stderr.take().context("a pipe")?;
    let ended = timeout(PATIENCE, sync.wait()).await.context("it waits for a reader")??;
    assert_eq!(ended.code(), Some(FOUND_LOSSES));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 2_000);
    let mut log = Vec::new();
    unread.read_to_end(&mut log).await?;
    // The pipe may be filled only to a fraction.
    assert!(log.len() > 32_768, "the pipe was full: {}", log.len());
    Ok(())
}

async fn dropped_log_lines_are_counted_once_the_log_is_read(lab: Arc<Lab>) -> anyhow::Result<()> {
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

async fn an_unread_terminal_does_not_stop_a_sync(lab: Arc<Lab>) -> anyhow::Result<()> {
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

async fn a_closed_terminal_does_not_stop_a_sync(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 100).await?;
    let (door, api) = behind_a_door().await;
    let mut command = lab.configured(&["sync"], api.url(), &[]);
    command.env("TERM", "xterm");
    let terminal = openpty(None, None)?;
    let mut sync = command.stderr(Stdio::from(terminal.slave)).spawn()?;
    door.arrivals(32).await;
    // Writing to it fails from now on.
    drop(terminal.master);
    door.open();
    let ended = timeout(PATIENCE, sync.wait()).await.context("it waits for a terminal")??;
    assert_eq!(ended.code(), Some(FOUND_LOSSES));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 100);
    Ok(())
}

async fn colours_are_for_terminals_whose_users_want_them(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (door, api) = behind_a_door().await;
    for (variables, is_coloured) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "xterm"), ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false),
        (&[("TERM", "dumb")], false),
        (&[("TERM", "dumb"), ("CI", "true")], false),
    ] {
        feed_anew(&lab).await?;
        let sync = lab.configured(&["sync"], api.url(), &[]);
        let running = tokio::spawn(on_terminal(sync, variables));
        // Long enough for a bar to be drawn.
        until(
            &lab,
            "SELECT count(*) = 1 FROM sync.runs WHERE status = 'running' AND started_at < now() - interval '0.5 s'",
        )
        .await?;
        door.admit(1);
        let output = running.await??;
        assert_eq!(has_colours(&output), is_coloured, "{variables:?}: {output:?}");
        assert_eq!(output.contains('\x1b'), !variables.contains(&("TERM", "dumb")), "{variables:?}: {output:?}");
        assert!(output.contains("run started"), "{output:?}");
        for arguments in [&["--help"][..], &["sync", "--fast"], &["status", "--help"]] {
            let output = on_terminal(lab.with_database(arguments), variables).await?;
            assert_eq!(output.contains('\x1b'), is_coloured, "{arguments:?} {variables:?}: {output:?}");
        }
        let status = on_terminal(lab.with_database(&["status"]), variables).await?;
        assert!(!status.contains('\x1b'), "{status:?}");
    }
    Ok(())
}

async fn empty_variables_are_unset_for_libraries_too(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    let mut command = lab.configured(&["run"], api.url(), &[("pace.max_in_flight", ""), ("schedule.timezone", "")]);
    for name in ["DATABASE_URL", "PGSSLROOTCERT", "PGPORT", "HTTPS_PROXY", "RUST_LOG", "NO_COLOR"] {
        command.env(name, "");
    }
    command.env("SPOKEN_FOR", "a b");
    let daemon = Process::start(&lab, command)?;
    daemon.logs("next run").await?;
    if cfg!(target_os = "linux") {
        let environment = std::fs::read_to_string(format!("/proc/{}/environ", daemon.id()?))?;
        let empty: Vec<_> = environment.split('\0').filter(|variable| variable.ends_with('=')).collect();
        assert_eq!(empty, Vec::<&str>::new());
        assert!(environment.contains("SPOKEN_FOR=a b\0"), "{environment:?}");
    }
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    Ok(())
}

async fn what_a_terminal_would_act_on_or_hide_is_escaped_everywhere(lab: Arc<Lab>) -> anyhow::Result<()> {
    // A C1 control, overrides, isolates, a joiner, an invisible space, a tag.
    const ODD: &str = "A\u{9b}31m\u{202e}B\u{2066}C\u{200d}D\u{200b}\u{e0041}";
    sqlx::query("INSERT INTO sync.order_queue (order_id, connect_user_id, source) VALUES ($1, $1, $1)")
        .bind(ODD)
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|_| Answer::new(500, "{}")).await;
    for format in ["text", "json"] {
        lab.make_all_due().await?;
        let more = [("log.level", "debug"), ("log.format", format)];
        let sync = Finished::of(lab.configured(&["sync"], api.url(), &more)).await?.expect_code(3);
        expect_seen(&sync);
        let line = sync.stderr.lines().find(|line| line.contains("trying again")).context("a line about the order")?;
        if format == "json" {
            assert_eq!(serde_json::from_str::<Value>(line)?["order_id"], ODD, "{line}");
        } else {
            assert!(line.contains(r"A\u{9b}31m\u{202e}B\u{2066}C\u{200d}D\u{200b}\u{e0041}"), "{line}");
        }
    }
    for arguments in [
        &["status"][..],
        &["status", "--failing"],
        &["status", "--json"],
        &["status", "--failing", "--json"],
        &["why", ODD],
        &["why", ODD, "--json"],
        &["plan"],
        &["plan", "--json"],
    ] {
        let finished = Finished::of(lab.configured(arguments, api.url(), &[])).await?.expect_code(0);
        expect_seen(&finished);
        if arguments[0] == "why" && arguments.len() == 3 {
            assert_eq!(super::only_json(&finished)?["order_id"], ODD);
        }
    }
    for arguments in [
        &["why", "\u{202e}unknown"][..],
        &["retry", "--order=\u{202e}unknown"],
        &["\u{202e}unknown"],
        &["why", "--\u{202e}unknown"],
        &["sync", "--limit", "\u{9b}31m\u{1b}[31m\u{202e}unknown"],
        &["retry", "--order=\u{1}\u{202e}unknown"],
    ] {
        let finished = Finished::of(lab.with_database(arguments)).await?;
        expect_seen(&finished);
        assert!(finished.stderr.contains(r"\u{202e}unknown"), "{}", finished.stderr);
    }
    Ok(())
}

fn expect_seen(finished: &Finished) {
    for output in [&finished.stdout, &finished.stderr] {
        let hidden = output.chars().find(|c| *c != '\n' && chatsync::visible::is_hidden(*c));
        assert_eq!(hidden, None, "{output:?}");
    }
}

/// One order, due.
async fn feed_anew(lab: &Lab) -> anyhow::Result<()> {
    sqlx::query("DELETE FROM sync.order_queue").execute(&lab.pool).await?;
    feed(lab, 1).await
}

/// All that a command writes to a terminal.
async fn on_terminal(mut command: Command, variables: &[(&str, &str)]) -> anyhow::Result<String> {
    let terminal = openpty(None, None)?;
    let slave = || terminal.slave.try_clone().map(Stdio::from);
    command.stdin(slave()?).stdout(slave()?).stderr(slave()?).envs(variables.iter().copied());
    let mut child = command.spawn()?;
    let mut master = File::from(terminal.master);
    let reading = tokio::task::spawn_blocking(move || {
        let (mut output, mut piece) = (Vec::new(), [0; 4096]);
        while !output.ends_with(LAST_WORD) {
            let read = master.read(&mut piece)?;
            output.extend_from_slice(&piece[..read]);
        }
        output.truncate(output.len() - LAST_WORD.len());
        anyhow::Ok(output)
    });
    timeout(PATIENCE, child.wait()).await.context("it does not end")??;
    // Not the end of the file: processes of other tests may hold the terminal, too.
    File::from(terminal.slave).write_all(LAST_WORD)?;
    Ok(String::from_utf8(reading.await??)?)
}

/// What no command writes.
const LAST_WORD: &[u8] = b"\x04the end\x04";

/// Whether any sequence is one that sets colours or the like.
fn has_colours(output: &str) -> bool {
    let sequences = output.split("\x1b[").skip(1);
    sequences
        .filter_map(|rest| rest.find(|c: char| c.is_ascii_alphabetic()).map(|end| &rest[end..=end]))
        .any(|end| end == "m")
}
