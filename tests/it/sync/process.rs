//! The real binary as a process, with its log in a file.

use std::fs::{File, read_to_string};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::support::{Lab, PATIENCE};

/// Killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(lab: &Lab, mut command: Command) -> anyhow::Result<Self> {
        let log = lab.home.path().join(format!("{}.log", Uuid::new_v4().simple()));
        let child = command.stderr(File::create(&log)?).spawn()?;
        Ok(Self { child, log })
    }

    /// As above, with a text on standard input.
    pub(crate) async fn start_with_input(lab: &Lab, mut command: Command, input: &[u8]) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped());
        let mut process = Self::start(lab, command)?;
        process.child.stdin.take().context("a pipe")?.write_all(input).await?;
        Ok(process)
    }

    /// Waits until the log contains a text.
    pub(crate) async fn logs(&self, text: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let log = read_to_string(&self.log)?;
            if log.contains(text) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "{text:?} was never logged: {log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn send(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.id()?.try_into()?), signal)?)
    }

    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("it has ended already")
    }

    /// Pauses the process for that long. Another process resumes it, so that none stays paused if the tests end
    /// meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended already")?.to_string();
        let seconds = time.as_secs_f64().to_string();
        let pause = r#"kill -STOP "$1" && sleep "$2" && kill -CONT "$1""#;
        Command::new("sh").args(["-c", pause, "sh", &id, &seconds]).stderr(Stdio::null()).spawn()?;
        Ok(())
    }

    /// Kills the process without a chance to clean up.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits for its end, with any exit code.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// The whole log.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(read_to_string(&self.log)?)
    }

    /// Waits for its end, expects the exit code, and returns the log.
    pub(crate) async fn ends_with(mut self, code: i32) -> anyhow::Result<String> {
        let ended = timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        let log = read_to_string(&self.log)?;
        ensure!(ended.code() == Some(code), "it ended with {ended}: {log}");
        Ok(log)
    }
}
