//! The opening of a run: are its first replies all refused, because of a setting of the account?
//!
//! As long as every reply is the same refusal they wait here, up to [`FIRST`] of them. Then others are asked
//! (`evidence`), and only if these are refused alike does the run stop, with no failure counted.

use super::write::Answered;
use crate::domain::Refusal;

/// So many of the first replies, all refused alike, are suspicious; and so many others are asked then.
pub(super) const FIRST: usize = 10;

#[derive(Default)]
pub(super) struct Opening {
    waiting: Vec<Answered>,
    is_over: bool,
}

/// Every order that was asked for is refused alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {orders} orders that were asked for first were refused alike ({refusal}); {}; no failure was counted", hint(*refusal))]
pub struct AllRefused {
    /// Orders that were asked for.
    pub orders: usize,
    /// How.
    pub refusal: Refusal,
}

fn hint(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal { status: 403, .. } => {
            "the account's setting \"shopper information removal\" makes this endpoint refuse always: ask your Instacart representative"
        }
        Refusal { status: 401, .. } => "check section auth of the configuration and connect_user_id of the orders",
        Refusal { code: Some(4001), .. } => "these orders want a user's token: set auth.mode = \"user_assertion\"",
        _ => {
            "check sections api and auth of the configuration, and settings of the account such as \"shopper information removal\""
        }
    }
}

impl Opening {
    /// Takes in a reply; returns what is ready to be weighed.
    pub(super) fn hear(&mut self, answered: Answered) -> Vec<Answered> {
        let refusal = answered.settlement.refusal;
        if self.is_over || (refusal.is_none() && self.waiting.is_empty()) {
            self.is_over = true;
            return vec![answered];
        }
        let is_alike = refusal.is_some() && self.refusal().is_none_or(|first| refusal == Some(first));
        self.waiting.push(answered);
        if is_alike { Vec::new() } else { self.end() }
    }

    /// The refusal that is suspicious, if it is.
    pub(super) fn suspicion(&self) -> Option<Refusal> {
        if self.waiting.len() < FIRST { None } else { self.refusal() }
    }

    /// The orders that were refused.
    pub(super) fn refused(&self) -> &[Answered] {
        &self.waiting
    }

    /// The rest of the run is weighed reply by reply; returns what has waited.
    pub(super) fn end(&mut self) -> Vec<Answered> {
        self.is_over = true;
        std::mem::take(&mut self.waiting)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.waiting.first().and_then(|answered| answered.settlement.refusal)
    }
}
