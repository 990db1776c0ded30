//! PostgreSQL: the only place with SQL.
//!
//! Plain functions on a connection or a pool, one module per table or command. [`Store`] runs them: each operation is
//! one transaction with limits in the server, and is retried if its failure is temporary. No function needs two
//! connections or keeps a lock or setting on its session, so everything works through a pooler in transaction mode that
//! supports prepared statements.

pub mod chat;
mod columns;
mod connection;
mod copy;
mod error;
pub mod evidence;
mod limits;
mod loan;
mod locks;
mod migrations;
#[cfg(test)]
mod names;
mod outage;
pub mod pace;
pub mod queue;
pub mod rejects;
pub mod report;
pub mod runs;
mod seats;
pub mod settle;
mod store;

pub use connection::{connect, connect_by, options};
pub use error::Error;
pub use limits::BY_KEY;
use limits::interval;
pub use loan::Transaction;
pub use migrations::{migrate, missing_migrations, row_security};
pub use sqlx::PgPool as Pool;
pub use store::Store;
