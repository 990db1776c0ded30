//! The third stage: passes replies through the storm guard and writes them in batches.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::answered::Answered;
use super::batch::{BatchQueue, MOST_ORDERS};
use super::guard::Guard;
use super::run::RunContext;
use super::{Error, Progress, not_storable};
use crate::db;
use crate::domain::OrderId;

/// Batches written at once. The second uses the time in which the first waits for the network and the disk; more would
/// slow each other down.
const WRITERS: usize = 2;

/// The orders of a written batch, which need no lease any more.
type Written = Result<Vec<OrderId>, db::Error>;

/// Writes until all replies have come and are written, or wait in the guard.
pub(super) async fn write(
    run: &Arc<RunContext>,
    answered: Receiver<Answered>,
    guard: &mut Guard,
    progress: &Progress,
    pass: &CancellationToken,
) -> Result<(), Error> {
    let mut writes = JoinSet::new();
    let mut result = write_batches(run, answered, guard, &mut writes, progress, pass).await;
    while let Some(written) = writes.join_next().await {
        result = result.and(note_written(run, written, progress));
    }
    result
}

/// After an error some writes may still be running.
async fn write_batches(
    run: &Arc<RunContext>,
    mut answered: Receiver<Answered>,
    guard: &mut Guard,
    writes: &mut JoinSet<Written>,
    progress: &Progress,
    pass: &CancellationToken,
) -> Result<(), Error> {
    let (mut incoming, mut ready, mut is_open) = (Vec::new(), BatchQueue::new(), true);
    loop {
        // A full batch, or the last one, is written as soon as a writer is free. Others wait a while and only start
        // if no writer is busy, so that batches grow under load.
        while !ready.is_empty()
            && writes.len() < WRITERS
            && (ready.is_full() || !is_open || (writes.is_empty() && ready.waits_until() <= Instant::now()))
        {
            writes.spawn(write_batch(Arc::clone(run), ready.take()).in_current_span());
        }
        tokio::select! {
            Some(written) = writes.join_next() => note_written(run, written, progress)?,
            // Not while a full batch waits: then the channel fills, and fetching slows down to what can be written.
            count = answered.recv_many(&mut incoming, MOST_ORDERS / 4), if is_open && !ready.is_full() => {
                is_open = count > 0;
                // The guard first: one batch must not close orders that a wrong server claims not to know.
                ready.add(guard.admit(incoming.drain(..), |order| run.session.client().id_space(order)));
                if guard.is_full() {
                    pass.cancel();
                }
            }
            () = tokio::time::sleep_until(ready.waits_until()), if !ready.is_empty() && writes.is_empty() => {}
            else => return Ok(()),
        }
    }
}

/// Writes these answers, batch by batch.
pub(super) async fn write_all(run: &Arc<RunContext>, answers: Vec<Answered>, progress: &Progress) -> Result<(), Error> {
    let mut ready = BatchQueue::new();
    ready.add(answers);
    while !ready.is_empty() {
        note_written(run, Ok(write_batch(Arc::clone(run), ready.take()).await), progress)?;
    }
    Ok(())
}

/// Spawned as a task: building the columns of a batch would otherwise delay the other stages.
async fn write_batch(run: Arc<RunContext>, batch: Vec<Answered>) -> Written {
    let order_ids = batch.iter().map(|answered| answered.order.order_id.clone()).collect();
    let has_storable_messages = batch.iter().any(|answered| answered.settlement.chat.has_storable_messages);
    not_storable::write(&run, batch).await?;
    run.has_stored.fetch_or(has_storable_messages, Relaxed);
    run.rejects.apply_to_flood(&run.halt).await;
    Ok(order_ids)
}

fn note_written(run: &RunContext, written: Result<Written, JoinError>, progress: &Progress) -> Result<(), Error> {
    let order_ids = written??;
    run.held.remove(order_ids.iter());
    progress.settle(order_ids.len() as u64);
    Ok(())
}
