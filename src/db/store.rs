//! A database that may go away, and the patience to wait for it.
//!
//! What a run asks of the database goes through [`Store::run`]: on a connection of its own, not longer than
//! `database.timeout`, and again with growing waits as long as the failure is one that passes (a restart, a fail-over,
//! a cut or silent connection, a full disk, a deadlock), up to `database.give_up_after`. So an operation must be one
//! statement or one transaction, and harmless when done twice: a commit whose answer was lost has happened.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::config::Patience;

/// The wait after the first failure; it doubles up to the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Once the run is to stop, a database that is away is waited for no longer than this.
const GRACE: Duration = Duration::from_secs(10);

/// The database of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    patience: Patience,
    stop: CancellationToken,
    /// So that an outage is told once, however many operations meet it.
    is_away: Arc<AtomicBool>,
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
    /// The database behind `pool`. Once `stop` is cancelled patience is short.
    #[must_use]
    pub fn new(pool: PgPool, patience: Patience, stop: CancellationToken) -> Self {
        Self { pool, patience, stop, is_away: Arc::default() }
    }

    /// Does an operation, again and again while the database is away. Fails with what the database refuses, or once
    /// patience is at its end.
    pub async fn run<T, F>(&self, mut operation: impl FnMut(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut wait, mut away_since) = (FIRST_WAIT, None);
        loop {
            let error = match self.once(&mut operation).await {
                Ok(done) => {
                    if self.is_away.swap(false, Relaxed) {
                        tracing::info!("the database is back");
                    }
                    return Ok(done);
                }
                Err(error) if error.is_passing_conflict() || error.is_outage() => error,
                Err(error) => return Err(error),
            };
            let since = *away_since.get_or_insert_with(Instant::now);
            if error.is_outage() && !self.is_away.swap(true, Relaxed) {
                tracing::warn!("the database is away, waiting for it: {error}");
            }
            let end = since + self.patience.give_up_after;
            let retry_at = Instant::now() + wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            wait = (wait * 2).min(LONGEST_WAIT);
            if !self.wait_until(retry_at, since, end).await {
                return Err(Error::GaveUp { lasted: since.elapsed(), last: Box::new(error) });
            }
        }
    }

    /// Waits for the next try; false if there is none.
    async fn wait_until(&self, retry_at: Instant, since: Instant, end: Instant) -> bool {
        if retry_at > end {
            return false;
        }
        if self.stop.is_cancelled() {
            tokio::time::sleep_until(retry_at).await;
            return since.elapsed() < GRACE;
        }
        let _ = self.stop.run_until_cancelled(tokio::time::sleep_until(retry_at)).await;
        true
    }

    async fn once<T, F>(&self, operation: &mut impl FnMut(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let is_stuck = Arc::new(AtomicBool::new(false));
        let inner = self.pool.acquire().await?;
        let operation = operation(Link { inner, is_stuck: Arc::clone(&is_stuck) });
        tokio::pin!(operation);
        match tokio::time::timeout(self.patience.timeout, operation.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                is_stuck.store(true, Relaxed);
                Err(Error::Stuck { timeout: self.patience.timeout })
            }
        }
    }
}
