//! The domain, without any I/O: orders, conversations, and the policy that turns the outcome of a fetch into the new
//! state of an order.
//!
//! All other modules use these types; this module uses no other module of the crate. Values are checked where they are
//! made ([`OrderId::new`]), so that the rest of the code never handles raw strings.

mod backoff;
mod conversation;
mod fault;
mod fingerprint;
mod order;
mod outcome;
mod policy;
mod schedule;
mod settlement;

pub(crate) use order::{checked_id, text_enum};

pub use backoff::backoff;
pub use conversation::{ChatUser, ChatUserId, Conversation, Extra, Message, Metadata, UserType};
pub use fault::Fault;
pub use fingerprint::reply_hash;
pub use order::{
    ClaimedOrder, Coverage, HeldKind, HeldResult, IdSpace, InvalidId, Lease, NewOrder, OrderId, OrderState, TokenKind,
};
pub use outcome::{Failure, Outcome, Refusal};
pub use policy::{FailureKind, Policy, Then};
pub use schedule::{InvalidSchedule, Schedule};
pub use settlement::{
    Attempt, ChatChange, Loss, Note, NoteKind, OrderChange, QueueChange, QueuePolicy, Reject, Settlement, Suspicion,
    Verdict, confirm, settle,
};
