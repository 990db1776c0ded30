//! What the operations of a run know about an outage of the database, and what of it is logged.

use std::time::Duration;

use tokio::time::Instant;

use super::Error;
use crate::waits::{For, Waiting, Waits};

/// A lasting lock is logged once per interval.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// What the operations of a run share about failures.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Since when the database is unavailable, and the wait for it.
    pub(super) since: Option<(Instant, Waiting)>,
    /// When that was last logged, and whether its end will be. A server that accepts some connections and refuses others
    /// would fill the log.
    pub(super) away_logged: Option<Instant>,
    pub(super) is_away_logged: bool,
    /// Set once an operation gave up: nothing is retried any more.
    pub(super) is_given_up: bool,
    pub(super) stopping_since: Option<Instant>,
    pub(super) last_success: Option<Instant>,
    /// Whether it was logged that the server gives fewer connections than it may be asked for.
    pub(super) is_shortage_logged: bool,
    /// The last known holder of a lock, and when it was reported.
    pub(super) holder: Option<String>,
    pub(super) lock_reported_at: Option<Instant>,
}

impl Outage {
    pub(super) fn note_success(&mut self) {
        self.last_success = Some(Instant::now());
        if self.since.take().is_some() && std::mem::take(&mut self.is_away_logged) {
            tracing::info!("the database is back");
        }
    }

    /// Reports an outage once, however many operations meet it.
    pub(super) fn note_outage(&mut self, error: &Error, give_up_after: Duration, waits: &Waits) {
        if self.since.is_none() && !give_up_after.is_zero() {
            let now = Instant::now();
            self.since = Some((now, waits.begin(For::Database, Some(now + give_up_after))));
            if self.away_logged.is_none_or(|logged| logged.elapsed() >= AGAIN_AFTER) {
                (self.away_logged, self.is_away_logged) = (Some(now), true);
                tracing::warn!("the database is away, waiting for it: {error}");
            }
        }
    }

    /// Reports a lock once a minute, however many operations meet it.
    pub(super) fn note_lock(&mut self, give_up_after: Duration) -> Error {
        let error = Error::Locked { holder: self.holder.take() };
        let is_waited_for = !give_up_after.is_zero();
        if is_waited_for && self.lock_reported_at.is_none_or(|reported| reported.elapsed() >= AGAIN_AFTER) {
            self.lock_reported_at = Some(Instant::now());
            tracing::warn!("waiting for a lock: {error}");
        }
        error
    }

    /// Reports once that there are fewer connections than configured.
    pub(super) fn note_shortage(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_shortage_logged, true) {
            tracing::warn!(
                "fewer connections to the database than database.max_connections; this run goes on with those it has: \
                 {reason}; if a pooler is in between, or the role has a limit, lower database.max_connections"
            );
        }
    }
}
