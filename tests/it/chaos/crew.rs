//! The workers of a trial: real processes that are restarted after every end, and their connections to the database.
//!
//! A worker may end only by the plan, by a failure that it reports, or after its work. Anything else, such as a panic,
//! fails the trial.

use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::plan::{WORKERS, Way};
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Lab, PATIENCE};
use crate::sync::Process;

/// Pause between the end of a worker and the next start, as supervisors have.
const REST: Duration = Duration::from_millis(300);

pub(super) struct Crew {
    workers: Vec<Worker>,
}

struct Worker {
    lab: Arc<Lab>,
    base_url: String,
    settings: Vec<(&'static str, String)>,
    way: Proxy,
    process: Option<Process>,
    starts_at: Instant,
}

impl Crew {
    /// Workers that start at the next wait.
    pub(super) fn hire(lab: &Arc<Lab>, base_url: &str, settings: &[(&'static str, String)]) -> anyhow::Result<Self> {
        let worker = |_| {
            let way = Proxy::start(lab.url())?;
            let mut settings = settings.to_vec();
            settings.push(("database.url", way.url().to_owned()));
            let (lab, base_url) = (Arc::clone(lab), base_url.to_owned());
            Ok(Worker { lab, base_url, settings, way, process: None, starts_at: Instant::now() })
        };
        Ok(Self { workers: (0..WORKERS).map(worker).collect::<anyhow::Result<_>>()? })
    }

    /// Runs the workers until then, and restarts each when it ends.
    pub(super) async fn work_until(&mut self, moment: Instant) -> anyhow::Result<()> {
        let work = try_join_all(self.workers.iter_mut().map(Worker::keep_working));
        match timeout_at(moment, work).await {
            Ok(never) => never.map(drop),
            Err(_) => Ok(()),
        }
    }

    pub(super) async fn kill(&mut self, worker: usize) -> anyhow::Result<()> {
        let worker = &mut self.workers[worker];
        worker.starts_at = Instant::now() + REST;
        match worker.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    pub(super) fn pause(&mut self, worker: usize, time: Duration) -> anyhow::Result<()> {
        self.workers[worker].running()?.map_or(Ok(()), |process| process.pause(time))
    }

    pub(super) fn interrupt(&mut self, worker: usize) -> anyhow::Result<()> {
        self.workers[worker].running()?.map_or(Ok(()), |process| process.send(Signal::SIGTERM))
    }

    pub(super) async fn change_way(&mut self, worker: usize, change: &Way) -> anyhow::Result<()> {
        let way = &mut self.workers[worker].way;
        match *change {
            Way::Cut(ending) => way.cut(ending),
            Way::CutAfter(bytes, ending) => way.cut_after(bytes, ending),
            Way::Close => {
                way.refuse().await;
                way.cut(Ending::Fin);
            }
            Way::Stall => way.stall(),
            Way::Open => way.resume()?,
        }
        Ok(())
    }

    /// Opens every connection, resumes all workers and ends them in order.
    pub(super) async fn dismiss(&mut self) -> anyhow::Result<()> {
        for number in 0..self.workers.len() {
            self.change_way(number, &Way::Open).await?;
            self.interrupt(number)?;
            if let Some(process) = self.workers[number].running()? {
                process.send(Signal::SIGCONT)?;
            }
        }
        for worker in &mut self.workers {
            if let Some(process) = &mut worker.process {
                let ended =
                    timeout(PATIENCE, process.ended()).await.context("a worker does not end when all is well")?;
                worker.accept(ended?)?;
            }
        }
        Ok(())
    }
}

impl Worker {
    /// Cancel-safe.
    async fn keep_working(&mut self) -> anyhow::Result<Infallible> {
        loop {
            if let Some(process) = &mut self.process {
                let ended = process.ended().await?;
                self.accept(ended)?;
                self.process = None;
                self.starts_at = Instant::now() + REST;
            }
            sleep_until(self.starts_at).await;
            let settings: Vec<(&str, &str)> = self.settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let command = self.lab.configured(&["sync"], &self.base_url, &settings);
            self.process = Some(Process::start(&self.lab, command)?);
        }
    }

    fn running(&mut self) -> anyhow::Result<Option<&Process>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        Ok(if process.has_ended()? { None } else { Some(process) })
    }

    fn accept(&self, ended: ExitStatus) -> anyhow::Result<()> {
        // A signal before the program listens for it ends it at once.
        let is_early_end = ended.signal() == Some(Signal::SIGTERM as i32);
        let is_reported = matches!(ended.code(), Some(0 | 1 | 3));
        let log = self.process.as_ref().map(Process::log).transpose()?.unwrap_or_default();
        ensure!((is_early_end || is_reported) && !log.contains("panicked"), "a worker ended with {ended}:\n{log}");
        Ok(())
    }
}
