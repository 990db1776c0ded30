//! The second stage: fetches orders, many at once, and settles what came.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Error;
use super::answered::Answered;
use super::run::RunContext;
use crate::connect::Answer;
use crate::domain::{ClaimedOrder, Note, settle};

/// Fetches claimed orders until there are no more or `pass` is cancelled. Each is a task, so that decoding uses all
/// cores.
pub(super) async fn fetch(
    run: &Arc<RunContext>,
    mut claimed: Receiver<ClaimedOrder>,
    out: Sender<Answered>,
    pass: &CancellationToken,
) -> Result<(), Error> {
    let mut tasks = JoinSet::new();
    let mut result = Ok(());
    loop {
        tokio::select! {
            // Finished tasks first, so that an error stops the run before another request is sent.
            biased;
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended.map_err(Error::from).flatten() {
                    run.halt.cancel();
                    result = result.and(Err(error));
                }
            }
            // While the limit is reached, orders wait in the channel, and the claim stage waits for it.
            order = claimed.recv(), if tasks.len() < run.max_in_flight && !pass.is_cancelled() => {
                let Some(order) = order else { break };
                let span = tracing::debug_span!("attempt", order_id = %order.order_id).or_current();
                tasks.spawn(fetch_one(Arc::clone(run), order, out.clone()).instrument(span));
            }
            () = pass.cancelled() => break,
        }
    }
    // Complete the requests in flight, so that no reply is lost and fetched again.
    while let Some(ended) = tasks.join_next().await {
        result = result.and(ended.map_err(Error::from).flatten());
    }
    result
}

/// Fetches and settles one order. An error stops the run. Without a reply the order stays held and is released.
async fn fetch_one(run: Arc<RunContext>, mut order: ClaimedOrder, out: Sender<Answered>) -> Result<(), Error> {
    if let Some(held) = &order.held
        && held.id_space != run.session.client().id_space(&order).to_string()
    {
        // The held result belongs to another server, banner or kind of ids and means nothing here.
        order.held = None;
    }
    let fetched = run.session.fetch(&order).await;
    let outcome = match fetched.answer {
        Answer::Outcome(outcome) => outcome,
        Answer::GivenUp => return Ok(()),
        Answer::StopRun(error) => return Err(error.into()),
    };
    // A read counts from when it was asked for, an end from when it was answered: both prove less rather than more.
    let asked_at = run.clock.time_of(fetched.asked_at);
    let answered_at = run.clock.now();
    let mut settlement = settle(&order, outcome, asked_at, answered_at, &run.policy, fastrand::f64());
    settlement.attempt.requests = fetched.requests;
    settlement.queue.token_kind = fetched.token_kind;
    if let Some(Note { kind, text }) = &settlement.attempt.note {
        tracing::warn!(
            order_id = %order.order_id, kind = kind.as_str(), verdict = ?settlement.verdict, reason = text, "not fully read"
        );
    }
    let settlement = Box::new(settlement);
    let answered = Answered { order: Box::new(order), settlement, reservation: fetched.reservation };
    // The receiver is gone only after the write stage has failed, which is reported there.
    let _ = out.send(answered).await;
    Ok(())
}
