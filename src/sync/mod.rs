//! A run: the only place where the API and the database meet.
//!
//! [`Worker::run`](worker::Worker::run) fetches everything that is due when it starts, in `passes` through the queue.
//! `pipeline` joins three stages that overlap: `claim` leases orders in due order, `fetch` sends many requests at once,
//! `write` stores the results in batches. They share the `run`. `leased` lists the leases between claim and write; `leases`
//! renews them during the run and releases them if it ends early.
//!
//! Between fetch and write is the storm guard: `opening` judges the first replies, `guard` all of them. What they
//! cannot decide, `evidence` finds out at the end of a pass. `not_storable` deals with rows that PostgreSQL refuses.
//!
//! Beside the stages, `share` agrees with other workers on the pace, `explain` reports long waits, `rejects` keeps
//! `sync.rejects` within its limits, and `outlook` predicts which deadlines the next run would miss.

mod answered;
mod batch;
mod claim;
mod clock;
mod confirm;
mod error;
mod evidence;
mod explain;
mod failures;
mod fetch;
mod guard;
mod leased;
mod leases;
mod not_storable;
mod opening;
pub mod outlook;
mod passes;
mod pipeline;
mod progress;
mod rejects;
mod run;
mod share;
mod space;
mod worker;
mod write;

pub use confirm::confirm;
pub use error::Error;

pub use opening::AllRefused;
pub use progress::Progress;
pub use space::PROBES;
pub use worker::{LOSSES, Report, Request, Worker};
