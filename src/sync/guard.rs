//! The storm guard: ends that a wrong server, banner, id space or account would bring upon every order are not
//! committed before enough other answers make them plausible.
//!
//! Suspicious settlements ([`Suspicion`]) are held back while answers are counted in blocks of `guard.min_orders`. A
//! block with too many of them stops the run; one that is plausible lets those of the block *before* it go, so that a
//! storm which begins in the middle of a block takes nothing of it along. What is left at the end is filled up
//! to a block with answers of the one before, then of earlier runs, in their proportion, and judged as well.

use crate::config;
use crate::connect::Reservation;
use crate::db::runs::PastRun;
use crate::domain::{Suspicion, Verdict};

use super::write::Answered;

/// Most runs looked back at. A few are enough as a rule; runs of a few orders each add up.
pub(super) const PAST_RUNS: i64 = 50;

/// Too many suspicious ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}; nothing of it was recorded, the orders stay as they were. If it is true nevertheless, raise guard.max_closed_share",
    what(self)
)]
pub struct Storm {
    /// What happened to them.
    pub kind: Suspicion,
    /// How many orders it happened to.
    pub orders: u64,
    /// Of how many that were answered.
    pub of: u64,
}

fn what(storm: &Storm) -> String {
    let Storm { kind, orders, of } = storm;
    match kind {
        Suspicion::Closed => format!(
            "the API says of {orders} of {of} orders that it does not know them (404, code 4000): this looks like the wrong server (api.base_url), banner (api.retailer_id), id space (api.treat_ids_as_internal) or user"
        ),
        Suspicion::ExpiredEarly => format!(
            "the API says of {orders} of {of} orders that they expired, sooner than possible by what is known of them: this looks like the wrong server (api.base_url) or a wrong completed_at"
        ),
        Suspicion::Refused => format!(
            "{orders} of {of} orders were refused for good: the log tells each reason; check sections api and auth, and connect_user_id of the orders"
        ),
    }
}

/// Answers counted, and how many of them are suspicious in which way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Block {
    answered: u64,
    suspicious: [u64; KINDS.len()],
}

const KINDS: [Suspicion; 3] = [Suspicion::Closed, Suspicion::ExpiredEarly, Suspicion::Refused];

pub(super) struct Guard {
    settings: config::Guard,
    /// Earlier runs, the latest first.
    past: Vec<Block>,
    /// The share of closed orders that is usual.
    usual: f64,
    block: Block,
    before: Option<Block>,
    held_now: Vec<Answered>,
    held_before: Vec<Answered>,
}

impl Guard {
    pub(super) fn new(settings: config::Guard, past: &[PastRun]) -> Self {
        let past: Vec<Block> = past.iter().map(Block::from).collect();
        let all = past.iter().fold(Block::default(), |all, run| all.plus(*run));
        let usual = if all.answered < settings.min_orders { 0.0 } else { share(all.suspicious[0], all.answered) };
        Self {
            settings,
            past,
            usual,
            block: Block::default(),
            before: None,
            held_now: Vec::new(),
            held_before: Vec::new(),
        }
    }

    /// Takes in answers; returns those that may be written, and the storm that ends the run, if there is one.
    pub(super) fn admit(&mut self, batch: Vec<Answered>) -> (Vec<Answered>, Result<(), Storm>) {
        let mut admitted = Vec::with_capacity(batch.len());
        let mut result = Ok(());
        for mut answered in batch {
            let settlement = &answered.settlement;
            let suspicion = settlement.suspicion;
            self.block.count(suspicion, settlement.verdict);
            if suspicion.is_some() {
                if settlement.conversation.is_none() && settlement.rejects.is_empty() {
                    answered.reservation = Reservation::default();
                }
                self.held_now.push(answered);
            } else {
                admitted.push(answered);
            }
            if result.is_ok() && self.block.answered >= self.settings.min_orders {
                result = self.judge(self.block);
                if result.is_ok() {
                    admitted.append(&mut self.held_before);
                    self.held_before.append(&mut self.held_now);
                    self.before = Some(std::mem::take(&mut self.block));
                }
            }
        }
        (admitted, result)
    }

    /// At the end of the work: returns what was held back.
    pub(super) fn finish(&mut self) -> Result<Vec<Answered>, Storm> {
        let mut last = self.block;
        for earlier in self.before.iter().chain(&self.past) {
            let missing = self.settings.min_orders.saturating_sub(last.answered);
            last = last.plus(earlier.scaled_to(missing));
        }
        if last.answered >= self.settings.min_orders {
            self.judge(last)?;
        }
        let mut rest = std::mem::take(&mut self.held_before);
        rest.append(&mut self.held_now);
        Ok(rest)
    }

    fn judge(&self, block: Block) -> Result<(), Storm> {
        for (kind, orders) in KINDS.into_iter().zip(block.suspicious) {
            let usual = if kind == Suspicion::Closed { self.usual } else { 0.0 };
            // What the past does not explain is held against the limit.
            let limit = self.settings.max_closed_share + (1.0 - self.settings.max_closed_share) * usual;
            if share(orders, block.answered) > limit {
                return Err(Storm { kind, orders, of: block.answered });
            }
        }
        Ok(())
    }
}

impl From<&PastRun> for Block {
    fn from(run: &PastRun) -> Self {
        let answered = run.fetched + run.closed + run.refused;
        Self { answered, suspicious: [run.closed, run.expired_early, run.refused] }
    }
}

impl Block {
    /// Failures that will be tried again say nothing here.
    fn count(&mut self, suspicion: Option<Suspicion>, verdict: Verdict) {
        self.answered += u64::from(suspicion.is_some() || !matches!(verdict, Verdict::Failed | Verdict::Dead));
        for (kind, count) in KINDS.into_iter().zip(&mut self.suspicious) {
            *count += u64::from(suspicion == Some(kind));
        }
    }

    fn plus(self, other: Self) -> Self {
        let mut suspicious = self.suspicious;
        for (count, more) in suspicious.iter_mut().zip(other.suspicious) {
            *count += more;
        }
        Self { answered: self.answered + other.answered, suspicious }
    }

    /// At most so many answers, in the same proportion.
    fn scaled_to(self, answered: u64) -> Self {
        if self.answered <= answered {
            return self;
        }
        let scale = |count: u64| count * answered / self.answered;
        Self { answered, suspicious: self.suspicious.map(scale) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 orders")]
fn share(orders: u64, of: u64) -> f64 {
    orders as f64 / of as f64
}
