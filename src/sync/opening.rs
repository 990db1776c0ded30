//! The opening of a run: detects that a setting of the account makes the API refuse every order.
//!
//! While every reply is the same refusal they wait here, up to [`FIRST`] of them. Then other orders are fetched
//! (`evidence`). Only if these are refused alike does the run stop, and no failure is counted.

use super::answered::Answered;
use crate::domain::Refusal;

/// This many equal refusals at the start are suspicious; then as many other orders are fetched.
pub(super) const FIRST: usize = 10;

#[derive(Default)]
pub(super) struct Opening {
    waiting: Vec<Answered>,
    is_over: bool,
}

/// Every order that was fetched was refused alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {orders} orders that were asked for first were refused alike ({refusal}); {}; no failure was counted", hint(*refusal))]
pub struct AllRefused {
    pub orders: usize,
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
    /// Takes a reply. Returns the replies that are ready to be weighed.
    pub(super) fn receive(&mut self, answered: Answered) -> Vec<Answered> {
        let refusal = answered.settlement.refusal;
        if self.is_over || (refusal.is_none() && self.waiting.is_empty()) {
            self.is_over = true;
            return vec![answered];
        }
        let is_alike = refusal.is_some() && self.refusal().is_none_or(|first| refusal == Some(first));
        self.waiting.push(answered);
        if is_alike { Vec::new() } else { self.end() }
    }

    /// Returns the suspicious refusal, if there is one.
    pub(super) fn suspicion(&self) -> Option<Refusal> {
        if self.waiting.len() < FIRST { None } else { self.refusal() }
    }

    pub(super) fn refused(&self) -> &[Answered] {
        &self.waiting
    }

    /// Ends the opening, and returns the replies that waited.
    pub(super) fn end(&mut self) -> Vec<Answered> {
        self.is_over = true;
        std::mem::take(&mut self.waiting)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.waiting.first().and_then(|answered| answered.settlement.refusal)
    }
}
