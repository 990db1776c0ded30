//! chatsync copies the conversations of Instacart Connect orders into PostgreSQL before the API deletes them.
//!
//! The data flow:
//!
//! ```text
//! enqueue ─► sync.order_queue ─► claim (lease) ─► fetch (paced, concurrent) ─► decode ─► settle ─► one transaction:
//!                  ▲                                                            upsert chat.* + settle queue rows
//!                  └────── due again / retry later / closed / expired / dead ◄──────────┘
//! ```
//!
//! Arrows point one way: `cli → schedule → sync → {connect, db} → domain`. `connect` is the only place that knows
//! HTTP, `db` the only one with SQL, `sync` the only one that uses both; `domain` does no I/O. `feed` reads files of
//! orders for `cli`, `embedded` runs a PostgreSQL for it. Waits are recorded in `waits`. ARCHITECTURE.md follows one
//! order through all of it.

pub mod cli;
pub mod config;
pub mod connect;
pub mod db;
pub mod domain;
pub mod embedded;
pub mod feed;
pub mod schedule;
pub mod shutdown;
pub mod simulator;
pub mod sync;
pub mod telemetry;
pub mod visible;
pub mod waits;
