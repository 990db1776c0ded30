//! The end of a pass: asks the database and the API for what the guard cannot decide by the replies of the run, and
//! writes what has waited.

use super::guard::{Guard, Judged, ORDERS_OF_A_USER, PROBES, Probe};
use super::opening::{AllRefused, FIRST};
use super::pipeline::Pipeline;
use super::write::Answered;
use super::{Error, Progress};
use crate::connect::Answer;
use crate::db::queue::{self, Witnesses};
use crate::db::{self, evidence};
use crate::domain::{ClaimedOrder, IdSpace, Outcome, Refusal, Suspicion};

impl Pipeline {
    /// Judges and writes what waits in the guard. Once the run is stopping, no request is sent: what lacks evidence
    /// then is held. Otherwise it would block other orders in every run that is stopped.
    pub(super) async fn judge(&self, guard: &mut Guard, progress: &Progress) -> Result<(), Error> {
        if let Some(refusal) = guard.opening().suspicion() {
            self.ask_others(guard, refusal).await?;
            if self.is_stopping() {
                // The account may be the cause, so nothing of it is settled.
                guard.forget_opening();
            }
        }
        let passed: Vec<Answered> = guard.end_opening(|order| self.session.client().id_space(order));
        for id_space in guard.suspected() {
            self.weigh(guard, &id_space).await?;
        }
        let good_spaces = &guard.good_spaces();
        if !good_spaces.is_empty() {
            let note = |mut transaction: db::Transaction| async move {
                evidence::note_good(&mut *transaction, good_spaces).await
            };
            self.store.run(note).await?;
        }
        let Judged { mut believed, held } = guard.judge();
        believed.extend(passed);
        warn(&held);
        believed.extend(held.into_iter().map(|(answered, suspicion, id_space)| answered.hold(suspicion, &id_space)));
        self.write_all(believed, progress).await
    }

    async fn weigh(&self, guard: &mut Guard, id_space: &IdSpace) -> Result<(), Error> {
        let look =
            |mut transaction: db::Transaction| async move { evidence::is_good(&mut *transaction, id_space).await };
        // A good reply of this run is stronger evidence.
        if !guard.good_spaces().contains(id_space) && self.store.run(look).await? {
            guard.was_good(id_space);
        }
        let users = &guard.doubtful_users(id_space);
        if !users.is_empty() {
            let count = |mut transaction: db::Transaction| async move {
                queue::large_users(&mut *transaction, users, ORDERS_OF_A_USER.into()).await
            };
            let large = self.store.run(count).await?;
            guard.are_large(large);
        }
        // A few need no evidence, and so no probe.
        let orders = guard.without_evidence(id_space);
        if orders > 0 && !self.is_stopping() {
            let few = guard.few();
            let count = |mut transaction: db::Transaction| async move {
                evidence::are_few(&mut transaction, id_space, orders, few).await
            };
            if self.store.run(count).await? {
                guard.are_few(id_space);
            }
        }
        if guard.wants_probe(id_space) && !self.is_stopping() {
            let which = Witnesses::Readable { id_space, window: self.policy().readable_window, users };
            let mut readable = self.witnesses(which, PROBES.into()).await?.into_iter();
            while guard.wants_probe(id_space) && !self.is_stopping() {
                match readable.next() {
                    Some(order) => {
                        let probe = self.probe(&order).await?;
                        guard.probed(id_space, Some(probe), order.connect_user_id.as_deref());
                    }
                    None => guard.probed(id_space, None, None),
                }
            }
        }
        Ok(())
    }

    /// Fetches other orders than those that were refused first. Fails if all are refused alike.
    async fn ask_others(&self, guard: &mut Guard, refusal: Refusal) -> Result<(), Error> {
        let refused = guard.opening().refused();
        let mut orders = refused.len();
        let order_ids: Vec<String> = refused.iter().map(|answered| answered.order.order_id.to_string()).collect();
        let mut users: Vec<String> =
            refused.iter().filter_map(|answered| answered.order.connect_user_id.clone()).collect();
        users.sort_unstable();
        users.dedup();
        let which = Witnesses::Others { order_ids: &order_ids, users: &users };
        let others = self.witnesses(which, i64::try_from(FIRST).unwrap_or(i64::MAX)).await?;
        let mut are_alike = !others.is_empty();
        for order in &others {
            if self.is_stopping() {
                return Ok(());
            }
            orders += 1;
            match self.session.fetch(order).await.answer {
                Answer::Outcome(Outcome::Failed(failure)) if failure.refusal() == Some(refusal) => {}
                Answer::Outcome(Outcome::Read(..) | Outcome::Same) => {
                    guard.note_good_reply(&self.session.client().id_space(order));
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
    async fn probe(&self, order: &ClaimedOrder) -> Result<Probe, Error> {
        match self.session.fetch(order).await.answer {
            Answer::Outcome(Outcome::Read(..) | Outcome::Same) => Ok(Probe::Good),
            Answer::Outcome(Outcome::NotFound) => Ok(Probe::Unknown),
            Answer::StopRun(error) => Err(error.into()),
            Answer::Outcome(_) | Answer::GivenUp => Ok(Probe::Nothing),
        }
    }

    async fn witnesses(&self, which: Witnesses<'_>, limit: i64) -> Result<Vec<ClaimedOrder>, Error> {
        let defaults = self.session.client().default_id_space();
        let ask = |mut transaction: db::Transaction| async move {
            queue::witnesses(&mut *transaction, which, defaults, limit).await
        };
        Ok(self.store.run(ask).await?)
    }
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
