//! Injected faults: which exist, which requests they hit, and what they do.
//!
//! `fault` lists them, `schedule` draws repeatably which request is hit, `effect` applies the fault, `bodies` makes the
//! replies that no API should send.

mod bodies;
mod effect;
mod fault;
mod schedule;

pub(super) use effect::{Forgotten, strike};
pub use fault::{InjectedFault, InvalidFault};
pub(super) use fault::{Target, help};
pub(super) use schedule::FaultSchedule;
