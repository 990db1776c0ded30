//! Starts and controls the mock server.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

/// A running mock server; dropping it kills the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _child: Child,
}

/// Its counters so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) processor: Duration,
    pub(crate) answered: u64,
}

impl Server {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the mock server")?;
        let stdin = child.stdin.take().context("a pipe")?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let address = lines.next_line().await?.context("the mock server did not start")?.parse()?;
        Ok(Self { address, pipes: Mutex::new((stdin, lines)), _child: child })
    }

    /// Returns the value for `api.base_url`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets whether some conversations have changed.
    pub(crate) async fn set_changed(&self, is_changed: bool) -> anyhow::Result<()> {
        self.command(&format!("changed {is_changed}")).await.map(drop)
    }

    /// Sets the delay of each reply.
    pub(crate) async fn set_latency(&self, milliseconds: u32) -> anyhow::Result<()> {
        self.command(&format!("latency {milliseconds}")).await.map(drop)
    }

    pub(crate) async fn usage(&self) -> anyhow::Result<Usage> {
        self.command("usage").await
    }

    async fn command(&self, line: &str) -> anyhow::Result<Usage> {
        let (stdin, lines) = &mut *self.pipes.lock().await;
        stdin.write_all(format!("{line}\n").as_bytes()).await.context("the mock server has gone")?;
        let answer = lines.next_line().await?.context("the mock server has gone")?;
        let (micros, answered) = answer.split_once(' ').context("two numbers")?;
        Ok(Usage { processor: Duration::from_micros(micros.parse()?), answered: answered.parse()? })
    }
}
