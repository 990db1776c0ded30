//! Joins the stages of a run by bounded channels.
//!
//! Claim, fetch and write are three futures. Each fetch and each batch being written is a task, so that decoding and
//! encoding use all cores. After an error or a signal, claiming stops, requests in flight are completed and written, and
//! unused leases are released. Memory is bounded: each stage waits until its channel has capacity.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::claim::claim;
use super::evidence::judge;
use super::fetch::fetch;
use super::guard::Guard;
use super::run::RunContext;
use super::write::write;
use super::{Error, Progress, leases};
use crate::db::queue::Due;

/// Walks once through the due orders, up to `limit`. Returns how many were claimed and settled.
pub(super) async fn pass(
    run: &Arc<RunContext>,
    due: &Due,
    limit: u64,
    guard: &mut Guard,
    progress: &Progress,
) -> Result<u64, Error> {
    let (claimed_out, claimed_in) = mpsc::channel(run.max_in_flight);
    let (answered_out, answered_in) = mpsc::channel(run.max_in_flight);
    // Also ends early if the guard must judge what waits before more is fetched.
    let pass = run.halt.child_token();
    let (claimed, fetched, written) = tokio::join!(
        run.halt_on_error(claim(run, &due.from, limit.min(due.free), claimed_out, progress, &pass)),
        run.halt_on_error(fetch(run, claimed_in, answered_out, &pass)),
        run.halt_on_error(write(run, answered_in, guard, progress, &pass)),
    );
    let judged = run.halt_on_error(judge(run, guard, progress)).await;
    let released = leases::release(run).await;
    // The first cause is in the write stage: if it fails, the stages before it fail as well.
    let claimed = written.and(fetched).and(claimed)?;
    judged?;
    Ok(claimed - released)
}
