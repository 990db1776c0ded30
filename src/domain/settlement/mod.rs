//! The policy: what the outcome of a fetch means for its order.
//!
//! [`settle`] is a pure function of what the queue knew, what the API replied and when. `sync` calls it for every
//! claimed order; `db` writes the result in one transaction. All rules about states, due times and coverage are here
//! and nowhere else.

mod change;
mod rules;
#[cfg(test)]
mod tests;

pub use change::{
    Attempt, ChatChange, Loss, Note, NoteKind, OrderChange, QueueChange, Reject, Settlement, Suspicion, Verdict,
};
pub use rules::{QueuePolicy, confirm, settle};
