//! Explains long waits of a run, in the log and in the row of the run for `chatsync status`.

use std::convert::Infallible;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::{Store, runs};
use crate::waits::{For, Wait, Waits};

const LOOK: Duration = Duration::from_secs(1);

/// Limit for writing the row. Short, because a wait for the database must not delay the explanations.
const QUICK: Duration = Duration::from_secs(2);

/// Watches `waits` until it is dropped. Retries a failed write at the next look.
pub(super) async fn explain(waits: &Waits, store: &Store, run_id: Uuid) -> Infallible {
    let store = store.beside(QUICK, CancellationToken::new());
    let mut recorded: Option<Wait> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(wait) = waits.unexplained() {
            tracing::info!(lasted = wait.lasted.as_secs(), "{wait}");
        }
        let wait = waits.longest();
        if is_known(recorded, wait) || wait.is_some_and(|wait| wait.what == For::Database) {
            continue;
        }
        if runs::wait(&store, run_id, wait).await.is_ok() {
            recorded = wait;
        }
    }
}

/// Whether the row already says so. The end of a wait is computed anew each time and may differ by a second.
fn is_known(recorded: Option<Wait>, wait: Option<Wait>) -> bool {
    match (recorded, wait) {
        (None, None) => true,
        (Some(recorded), Some(wait)) if recorded.what == wait.what => match (recorded.until, wait.until) {
            (Some(before), Some(now)) => (now - before).num_seconds().abs() <= 1,
            (before, now) => before == now,
        },
        _ => false,
    }
}
