//! A database that may go away, and the patience to wait for it.
//!
//! What a run asks of the database goes through [`Store::run`]: on a connection of its own, not longer than
//! `database.timeout`, and again with growing waits as long as the failure is one that passes (a restart, a fail-over,
//! a cut or silent connection, a full disk, a deadlock), up to `database.give_up_after`. So an operation must be one
//! statement or one transaction, and harmless when done twice: a commit whose answer was lost has happened.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::config::Patience;
use crate::waits::{For, Waiting, Waits};

/// The wait after the first failure; it doubles up to the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Once the run is to stop, a database that is away is waited for no longer than this.
const GRACE: Duration = Duration::from_secs(10);
/// And a connection to it no longer than this: several things are still to be tried, one after the other.
const LAST_ACQUIRE: Duration = Duration::from_secs(1);

/// The database of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    patience: Patience,
    stop: CancellationToken,
    waits: Waits,
    outage: Arc<Mutex<Outage>>,
}

/// What the operations of a run know of each other's failures.
#[derive(Debug, Default)]
struct Outage {
    /// Since when the database is away, which is waited for.
    since: Option<(Instant, Waiting)>,
    /// Patience is at its end: nothing is tried twice any more.
    is_given_up: bool,
}

/// A pooled connection that is not used again if an operation got stuck on it.
pub struct Link {
    inner: PoolConnection<Postgres>,
    is_stuck: Arc<AtomicBool>,
}

impl Deref for Link {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.is_stuck.load(Relaxed) {
            // Nobody answers at its other end: the pool would wait for it as well.
            self.inner.close_on_drop();
        }
    }
}

impl Store {
    /// The database behind `pool`. Once `stop` is cancelled patience is short. Says in `waits` what it waits for.
    #[must_use]
    pub fn new(pool: PgPool, patience: Patience, stop: CancellationToken, waits: Waits) -> Self {
        Self { pool, patience, stop, waits, outage: Arc::default() }
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.patience.timeout
    }

    /// Does an operation, again and again while the database is away. Fails with what the database refuses, or once
    /// patience is at its end.
    pub async fn run<T, F>(&self, mut operation: impl FnMut(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut wait, mut failing_since, mut is_outdated) = (FIRST_WAIT, None, false);
        loop {
            let error = match self.once(&mut operation, is_outdated).await {
                Ok(done) => {
                    self.is_back();
                    return Ok(done);
                }
                Err(error) if error.is_passing_conflict() => error,
                // Once: a pooler that goes on to use the old one needs somebody to tell it.
                Err(error) if error.is_outdated_statement() && !is_outdated => {
                    is_outdated = true;
                    error
                }
                Err(error) if error.is_outage() => {
                    self.is_away(&error);
                    error
                }
                Err(error) => return Err(error),
            };
            let since = *failing_since.get_or_insert_with(Instant::now);
            let retry_at = Instant::now() + wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            wait = (wait * 2).min(LONGEST_WAIT);
            if self.outage().is_given_up || !self.wait_until(retry_at, since).await {
                self.outage().is_given_up = true;
                let lasted = self.outage().since.as_ref().map_or(since, |(since, _)| *since).elapsed();
                return Err(Error::GaveUp { lasted, last: Box::new(error) });
            }
        }
    }

    fn is_back(&self) {
        let mut outage = self.outage();
        if outage.since.take().is_some() {
            tracing::info!("the database is back");
        }
    }

    /// Tells it once, however many operations meet it.
    fn is_away(&self, error: &Error) {
        let mut outage = self.outage();
        if outage.since.is_none() {
            let now = Instant::now();
            outage.since = Some((now, self.waits.begin(For::Database, Some(now + self.patience.give_up_after))));
            tracing::warn!("the database is away, waiting for it: {error}");
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        // Nothing panics while it is held; a poisoned state is still a state.
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next try; false if there is none.
    async fn wait_until(&self, retry_at: Instant, since: Instant) -> bool {
        if retry_at > since + self.patience.give_up_after {
            return false;
        }
        if self.stop.is_cancelled() {
            tokio::time::sleep_until(retry_at).await;
            return since.elapsed() < GRACE;
        }
        let _ = self.stop.run_until_cancelled(tokio::time::sleep_until(retry_at)).await;
        true
    }

    /// Whether the run is to stop while the database is away, or has given it up.
    fn is_in_a_hurry(&self) -> bool {
        let outage = self.outage();
        outage.is_given_up || (outage.since.is_some() && self.stop.is_cancelled())
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        if self.is_in_a_hurry() {
            let acquired = tokio::time::timeout(LAST_ACQUIRE, self.pool.acquire()).await;
            acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut))
        } else {
            self.pool.acquire().await
        }
    }

    /// Does it on any connection, which first forgets its prepared statements if some are outdated.
    async fn once<T, F>(&self, operation: &mut impl FnMut(Link) -> F, is_outdated: bool) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let is_stuck = Arc::new(AtomicBool::new(false));
        let inner = self.acquire().await?;
        let mut link = Link { inner, is_stuck: Arc::clone(&is_stuck) };
        // On the heap: the callers' futures would be as large as the largest operation many times over.
        let mut operation = Box::pin(async move {
            if is_outdated {
                link.clear_cached_statements().await?;
            }
            operation(link).await
        });
        let timeout = self.patience.timeout;
        let timeout = if self.is_in_a_hurry() { timeout.min(GRACE) } else { timeout };
        let _waiting = self.waits.begin(For::Answer, Some(Instant::now() + timeout));
        if let Ok(result) = tokio::time::timeout(timeout, operation.as_mut()).await {
            return result;
        }
        is_stuck.store(true, Relaxed);
        Err(Error::Stuck { timeout })
    }
}
