//! The first stage: leases due orders and sends them on.

use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::run::RunContext;
use super::{Error, Progress};
use crate::db::queue::{self, Claimed, Cursor};
use crate::domain::{ClaimedOrder, FailureKind, Lease};

/// Claims at most `limit` orders and sends them to the fetch stage. Returns how many it claimed, fetched or not.
pub(super) async fn claim(
    run: &RunContext,
    from: &Cursor,
    limit: u64,
    out: Sender<ClaimedOrder>,
    progress: &Progress,
    pass: &CancellationToken,
) -> Result<u64, Error> {
    // Twice what is in flight: the next claim is ready before the fetch stage runs dry. The leases of a claim that is
    // much larger would be held long before their orders are fetched.
    let chunk = (run.max_in_flight * 2).clamp(64, 1_000);
    let mut cursor = from.clone();
    let mut claimed = 0;
    while claimed < limit && !pass.is_cancelled() {
        let size = chunk.min(usize::try_from(limit - claimed).unwrap_or(usize::MAX));
        // Committed before any order is sent on: no transaction may stay open during a request, and a crash must leave
        // a lease that others can take over.
        let lease = Lease::new_v4();
        let Claimed { orders, unusable, next } =
            queue::claim(&run.store, run.id, &run.scope, &cursor, size, lease, run.lease).await?;
        cursor = next;
        // Before the first order is sent, so that none is in flight without renewal.
        run.held.add(&orders);
        note_unusable(run, &unusable, progress);
        let count = orders.len() + unusable.len();
        claimed += count as u64;
        for order in orders {
            // Either way it will not be fetched. It is still in `held`, so it is released.
            match pass.run_until_cancelled(out.send(order)).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return Ok(claimed),
            }
        }
        // The end of the queue, or nearly: a row that was locked at this moment is left to the next pass.
        if count < size {
            break;
        }
    }
    Ok(claimed)
}

/// Counts and logs orders whose rows cannot be used. The claim has settled them as dead.
fn note_unusable(run: &RunContext, unusable: &[String], progress: &Progress) {
    let Some(example) = unusable.first() else { return };
    let kind = FailureKind::BadRow.as_str();
    for order_id in unusable {
        run.failures.note(kind, order_id);
    }
    progress.settle(unusable.len() as u64);
    tracing::warn!(orders = unusable.len(), ?example, kind, "rows of the queue cannot be used: chatsync why ORDER");
}
