//! The end of a pass: asks the database and the API for what the guard cannot decide by the replies of the run, and
//! writes what has waited.

use std::sync::Arc;

use super::answered::Answered;
use super::guard::{Guard, Judged, ORDERS_OF_A_USER, Probe};
use super::opening::{AllRefused, FIRST};
use super::run::RunContext;
use super::space::PROBES;
use super::write::write_all;
use super::{Error, Progress};
use crate::connect::Answer;
use crate::db::evidence;
use crate::db::queue::{self, Witnesses};
use crate::domain::{ClaimedOrder, IdSpace, Outcome, Refusal, Suspicion};

/// Judges and writes what waits in the guard. Once the run is stopping, no request is sent: what lacks evidence
/// then is held. Otherwise it would block other orders in every run that is stopped.
pub(super) async fn judge(run: &Arc<RunContext>, guard: &mut Guard, progress: &Progress) -> Result<(), Error> {
    if let Some(refusal) = guard.opening().suspicion() {
        ask_others(run, guard, refusal).await?;
        if run.halt.is_cancelled() {
            // The account may be the cause, so nothing of it is settled.
            guard.forget_opening();
        }
    }
    let passed: Vec<Answered> = guard.end_opening(|order| run.session.client().id_space(order));
    for id_space in guard.suspected() {
        weigh(run, guard, &id_space).await?;
    }
    let good_spaces = &guard.good_spaces();
    if !good_spaces.is_empty() {
        match evidence::note_good(&run.store, good_spaces).await {
            // Later runs lack this evidence, but none of their orders is lost.
            Err(error) if error.is_about_the_rows() => tracing::warn!(%error, "good replies were not remembered"),
            noted => noted?,
        }
    }
    let Judged { mut believed, held } = guard.judge();
    believed.extend(passed);
    warn(&held);
    believed.extend(held.into_iter().map(|(answered, suspicion, id_space)| answered.hold(suspicion, &id_space)));
    write_all(run, believed, progress).await
}

async fn weigh(run: &RunContext, guard: &mut Guard, id_space: &IdSpace) -> Result<(), Error> {
    // A good reply of this run is stronger evidence.
    if !guard.good_spaces().contains(id_space) && evidence::is_good(&run.store, id_space).await? {
        guard.was_good(id_space);
    }
    let users = &guard.doubtful_users(id_space);
    if !users.is_empty() {
        let large = queue::large_users(&run.store, users, ORDERS_OF_A_USER.into()).await?;
        guard.are_large(large);
    }
    // A few need no evidence, and so no probe.
    let orders = guard.without_evidence(id_space);
    if orders > 0 && !run.halt.is_cancelled() && evidence::are_few(&run.store, id_space, orders, guard.few()).await? {
        guard.are_few(id_space);
    }
    if guard.wants_probe(id_space) && !run.halt.is_cancelled() {
        let which = Witnesses::Readable { id_space, window: run.policy.readable_window, users };
        let mut readable = witnesses(run, which, PROBES.into()).await?.into_iter();
        while guard.wants_probe(id_space) && !run.halt.is_cancelled() {
            match readable.next() {
                Some(order) => {
                    let probe = probe(run, &order).await?;
                    guard.probed(id_space, Some(probe), order.connect_user_id.as_deref());
                }
                None => guard.probed(id_space, None, None),
            }
        }
    }
    Ok(())
}

/// Fetches other orders than those that were refused first. Fails if all are refused alike.
async fn ask_others(run: &RunContext, guard: &mut Guard, refusal: Refusal) -> Result<(), Error> {
    let refused = guard.opening().refused();
    let mut orders = refused.len();
    let order_ids: Vec<String> = refused.iter().map(|answered| answered.order.order_id.to_string()).collect();
    let mut users: Vec<String> = refused.iter().filter_map(|answered| answered.order.connect_user_id.clone()).collect();
    users.sort_unstable();
    users.dedup();
    let which = Witnesses::Others { order_ids: &order_ids, users: &users };
    let others = witnesses(run, which, i64::try_from(FIRST).unwrap_or(i64::MAX)).await?;
    let mut are_alike = !others.is_empty();
    for order in &others {
        if run.halt.is_cancelled() {
            return Ok(());
        }
        orders += 1;
        match run.session.fetch(order).await.answer {
            Answer::Outcome(Outcome::Failed(failure)) if failure.refusal() == Some(refusal) => {}
            Answer::Outcome(Outcome::Read(..) | Outcome::Same) => {
                guard.note_good_reply(&run.session.client().id_space(order));
                return Ok(());
            }
            Answer::StopRun(error) => return Err(error.into()),
            Answer::Outcome(_) | Answer::GivenUp => {
                are_alike = false;
                break;
            }
        }
    }
    if are_alike { Err(AllRefused { orders, refusal }.into()) } else { Ok(()) }
}

/// Fetches a readable order to learn about its id space.
async fn probe(run: &RunContext, order: &ClaimedOrder) -> Result<Probe, Error> {
    match run.session.fetch(order).await.answer {
        Answer::Outcome(Outcome::Read(..) | Outcome::Same) => Ok(Probe::Good),
        Answer::Outcome(Outcome::NotFound) => Ok(Probe::Unknown),
        Answer::StopRun(error) => Err(error.into()),
        Answer::Outcome(_) | Answer::GivenUp => Ok(Probe::Nothing),
    }
}

async fn witnesses(run: &RunContext, which: Witnesses<'_>, limit: i64) -> Result<Vec<ClaimedOrder>, Error> {
    let defaults = run.session.client().default_id_space();
    Ok(queue::witnesses(&run.store, which, defaults, limit).await?)
}

type IsKind = fn(Suspicion) -> bool;

/// Logs one line per kind of held result.
fn warn(held: &[(Answered, Suspicion, IdSpace)]) {
    const PLACE: &str = "the server (api.base_url), the banner (api.retailer_id), the id space (api.treat_ids_as_internal) or the user may be wrong";
    let vanished =
        format!("held, not closed: the API does not know orders that were read before (404, code 4000); {PLACE}");
    let unknown = format!(
        "held, not closed: the API does not know these orders (404, code 4000), and nothing shows that they were asked for at the right place; {PLACE}"
    );
    let kinds: [(IsKind, &str); 5] = [
        (|suspicion| suspicion == Suspicion::Vanished, &vanished),
        (|suspicion| suspicion == Suspicion::Unknown, &unknown),
        (|suspicion| suspicion == Suspicion::Uncoded, "held, not closed: the API answers 404 without code 4000"),
        (
            |suspicion| matches!(suspicion, Suspicion::ExpiredEarly { .. }),
            "held, not expired: the API says so sooner than possible; the server (api.base_url) or completed_at may be wrong",
        ),
        (
            |suspicion| suspicion == Suspicion::Refused,
            "held, not given up: too many orders are refused for good; check sections api and auth, and connect_user_id of the orders",
        ),
    ];
    for (is_kind, text) in kinds {
        let orders = held.iter().filter(|(_, suspicion, _)| is_kind(*suspicion)).count();
        if orders > 0 {
            tracing::warn!(orders, "{text}");
        }
    }
}
