//! The worker: `chatsync sync` as people run it, from the start of the process to its end.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::lab::Lab;
use crate::load::{Load, Loaded};
use crate::orders::Changes;
use crate::postgres::Transport;
use crate::processor;
use crate::sample::Sample;

/// How often a process's memory is read.
const LOOK: Duration = Duration::from_millis(20);

/// The settings of a worker; everything else is chatsync's default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// `pace.max_in_flight`.
    pub(crate) in_flight: u32,
    /// Workers at the same time.
    pub(crate) workers: u32,
    /// How they reach the database.
    pub(crate) transport: Transport,
}

impl Setup {
    /// Returns the setup of one worker over TCP.
    pub(crate) fn one(in_flight: u32) -> Self {
        Self { in_flight, workers: 1, transport: Transport::Tcp }
    }
}

/// What all workers of a measurement must have done together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Done {
    pub(crate) claimed: u64,
    pub(crate) fetched: u64,
    pub(crate) unchanged: u64,
    pub(crate) messages_inserted: u64,
    pub(crate) messages_updated: u64,
}

impl Done {
    /// Expects orders read for the first time.
    pub(crate) fn first(orders: u32, messages: u64) -> Self {
        Self { messages_inserted: messages, ..Self::read(orders) }
    }

    /// Expects orders read again without changes.
    pub(crate) fn again(orders: u32) -> Self {
        Self { unchanged: orders.into(), ..Self::read(orders) }
    }

    /// Expects orders read again after some have changed; `updated` messages in each read one.
    pub(crate) fn changed(orders: u32, changes: Changes, updated: u32) -> Self {
        Self {
            unchanged: (orders - changes.grown - changes.read).into(),
            messages_inserted: changes.grown.into(),
            messages_updated: u64::from(changes.read) * u64::from(updated),
            ..Self::read(orders)
        }
    }

    fn read(orders: u32) -> Self {
        Self { claimed: orders.into(), fetched: orders.into(), ..Self::default() }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            claimed: self.claimed + other.claimed,
            fetched: self.fetched + other.fetched,
            unchanged: self.unchanged + other.unchanged,
            messages_inserted: self.messages_inserted + other.messages_inserted,
            messages_updated: self.messages_updated + other.messages_updated,
        }
    }
}

/// Measures a run over everything that is due. Fails if it did anything but `expected`.
pub(crate) async fn measure(lab: &Lab, setup: Setup, messages: u64, expected: Done) -> anyhow::Result<Sample> {
    let orders = u32::try_from(expected.fetched)?;
    let work = async {
        // At most two workers, each with its own files.
        let second = async { if setup.workers > 1 { run(lab, setup, "second").await.map(Some) } else { Ok(None) } };
        let (first, second) = tokio::join!(run(lab, setup, "first"), second);
        Ok((first?, second?))
    };
    let (mut sample, ((first, first_peak), second)) = lab.measure(orders, messages, work).await?;
    let (second, second_peak) = second.unwrap_or_default();
    let done = first.plus(second);
    ensure!(done == expected, "the worker did {done:?} instead of {expected:?}");
    #[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
    let peak = first_peak.max(second_peak).map(|bytes| bytes as f64);
    sample.peak_resident_bytes = peak;
    Ok(sample)
}

/// Runs one worker to its end; returns its memory peak as well.
async fn run(lab: &Lab, setup: Setup, name: &str) -> anyhow::Result<(Done, Option<u64>)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatsync"));
    command
        .args(["sync", "--json"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", lab.scratch.path())
        .env("DATABASE_URL", lab.postgres.url(setup.transport))
        .envs([
            ("CHATSYNC__API__BASE_URL", lab.server.url()),
            ("CHATSYNC__AUTH__MODE", "static_token".to_owned()),
            ("CHATSYNC__AUTH__TOKEN", "simulated-token".to_owned()),
            ("CHATSYNC__PACE__MAX_IN_FLIGHT", setup.in_flight.to_string()),
            // The search for the API's limit is not measured.
            ("CHATSYNC__PACE__INITIAL_REQUESTS_PER_SECOND", "100000".to_owned()),
            ("CHATSYNC__LOG__LEVEL", "warn".to_owned()),
        ])
        .envs(std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHATSYNC__")));
    let (output, peak) = output_of(lab, command, name).await?;
    let done = serde_json::from_str(&output).with_context(|| format!("the worker printed no run: {output}"))?;
    Ok((done, peak))
}

/// Measures fetching alone, by the load generator.
pub(crate) async fn measure_fetch(lab: &Lab, orders: u32, messages: u64, connections: u32) -> anyhow::Result<Sample> {
    let load = Load { address: lab.server.address, orders, connections };
    let work = async {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", "--address", &load.address.to_string()]);
        command.args(["--orders", &orders.to_string(), "--connections", &connections.to_string()]);
        output_of(lab, command, "load").await
    };
    let answered = lab.server.usage().await?.answered;
    let (mut sample, (output, peak)) = lab.measure(orders, messages, work).await?;
    let answered = lab.server.usage().await?.answered - answered;
    ensure!(answered == u64::from(orders), "the server answered {answered} requests instead of {orders}");
    let loaded: Loaded = serde_json::from_str(&output)?;
    sample.mean_latency_ms = Some(loaded.mean_latency_ms);
    #[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
    let peak = peak.map(|bytes| bytes as f64);
    sample.peak_resident_bytes = peak;
    Ok(sample.elsewhere())
}

/// Runs a process to its end and returns what it printed. Fails on an exit code. Dropping it kills the process.
async fn output_of(lab: &Lab, mut command: Command, name: &str) -> anyhow::Result<(String, Option<u64>)> {
    // Files, so that it never waits for a reader.
    let path = |kind| lab.scratch.path().join(format!("{name}.{kind}"));
    let (out, err) = (path("out"), path("err"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?).kill_on_drop(true);
    let mut child = command.current_dir(lab.scratch.path()).spawn()?;
    let pid = child.id().context("it has just been started")?;
    let mut peak = None;
    let status = loop {
        match tokio::time::timeout(LOOK, child.wait()).await {
            Ok(status) => break status?,
            Err(_) => peak = peak.max(processor::peak_resident(pid)),
        }
    };
    let (out, err) = (fs::read_to_string(out)?, fs::read_to_string(err)?);
    if !status.success() {
        bail!("the process {name} ended with {status}\n{out}\n{err}");
    }
    for line in err.lines() {
        // A slow statement is logged in full length.
        eprintln!("{name}: {}", line.chars().take(140).collect::<String>());
    }
    Ok((out, peak))
}
