//! Repeats passes through the queue until nothing that was due is left, here or with another worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use super::pipeline::pass;
use super::run::RunContext;
use super::{Error, Progress};
use crate::db::Store;
use crate::db::queue::{self, Due};
use crate::waits::{For, SHOWN_AFTER, Waiting, Waits};

/// Interval between looks at orders that another worker holds; it doubles up to the longest.
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(20);
const LONGEST_LOOK_AWAY: Duration = Duration::from_secs(1);

/// The daemon stops waiting for locked orders after this many lease lengths without progress.
const PATIENCE_IN_LEASES: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkEnd {
    Done,
    /// Only orders are left that another session keeps locked or leased.
    Left,
    Stopped,
}

/// Makes passes until at most `limit` orders are settled or nothing due is left. A pass skips orders that other workers
/// hold; passes repeat until these are done as well, because such a worker may die. An order whose worker died is taken
/// over when its lease ends.
///
/// If only orders with locked rows are left, `sync` (`is_patient`) keeps waiting while a session may have locked them,
/// because exit code 0 means that all is up to date. The daemon leaves them to a later run: otherwise one locked row would delay orders that have become due
/// since.
pub(super) async fn work(
    run: &Arc<RunContext>,
    limit: u64,
    is_patient: bool,
    guard: &mut Guard,
    waits: &Waits,
    stop: &CancellationToken,
    progress: &Progress,
) -> Result<WorkEnd, Error> {
    if progress.is_counted() {
        progress.expect(queue::count_due(&run.store, &run.scope).await?.min(limit));
    }
    let mut remaining = limit;
    let mut idle = Idle::new(run.lease * PATIENCE_IN_LEASES, is_patient);
    while let Some(due) = queue::due(&run.store, &run.scope, run.lease).await? {
        if stop.is_cancelled() {
            return Ok(WorkEnd::Stopped);
        }
        let settled = Box::pin(pass(run, &due, remaining, guard, progress)).await?;
        remaining -= settled;
        if remaining == 0 {
            break;
        }
        if settled > 0 {
            idle = Idle::new(idle.patience, is_patient);
            continue;
        }
        if due.orders <= run.failures.unsettled() {
            return Ok(WorkEnd::Left);
        }
        let Some(wait) = idle.wait_for(&due, &run.store, waits).await else {
            tracing::warn!(orders = due.orders, waiting_for = For::Locks.as_str(), "left to a later run");
            return Ok(WorkEnd::Left);
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Ok(WorkEnd::Stopped);
        }
    }
    Ok(WorkEnd::Done)
}

/// The time since the last order was settled.
struct Idle {
    patience: Duration,
    is_patient: bool,
    since: Instant,
    look_away: Duration,
    waiting: Option<(For, Waiting)>,
    has_logged_holders: bool,
}

impl Idle {
    fn new(patience: Duration, is_patient: bool) -> Self {
        let (since, look_away) = (Instant::now(), SHORTEST_LOOK_AWAY);
        Self { patience, is_patient, since, look_away, waiting: None, has_logged_holders: false }
    }

    /// Returns how long to wait before the next look; `None` if it has waited long enough.
    async fn wait_for(&mut self, due: &Due, store: &Store, waits: &Waits) -> Option<Duration> {
        let now = Instant::now();
        let (what, until) = match due.free_in {
            Some(free_in) => {
                self.since = now;
                (For::Leases, Some(now + free_in))
            }
            None => (For::Locks, (!self.is_patient).then_some(self.since + self.patience)),
        };
        if what == For::Locks && !self.has_logged_holders && self.since.elapsed() >= SHOWN_AFTER.min(self.patience) {
            self.has_logged_holders = true;
            log_holders(store).await;
        }
        if what == For::Locks && self.since.elapsed() >= self.patience && !(self.is_patient && is_locked(store).await) {
            return None;
        }
        match &self.waiting {
            Some((before, waiting)) if *before == what => waiting.set_until(until),
            _ => self.waiting = Some((what, waits.begin(what, until))),
        }
        let wait = match due.free_in {
            Some(free_in) if due.free == 0 => self.look_away.min(free_in).max(SHORTEST_LOOK_AWAY),
            // Free but not claimed: another session has locked the row, for an unknown time.
            _ => self.look_away,
        };
        self.look_away = (self.look_away * 2).min(LONGEST_LOOK_AWAY);
        Some(wait)
    }
}

/// Whether a session may have locked the remaining orders. Otherwise a trigger keeps them from being claimed.
async fn is_locked(store: &Store) -> bool {
    queue::holders_of_orders(store).await.is_ok_and(|holders| holders.is_some())
}

/// Logs which sessions may have locked the remaining orders. A failure is ignored.
async fn log_holders(store: &Store) {
    if let Ok(Some(holders)) = queue::holders_of_orders(store).await {
        tracing::warn!(%holders, "these sessions may have locked the orders that are waited for");
    }
}
