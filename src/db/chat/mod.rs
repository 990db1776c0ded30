//! Schema `chat`: the conversations that analysts query.
//!
//! [`upsert()`] writes the conversations of a batch of settled orders, one statement per table. Rows are sorted by key,
//! so that concurrent workers lock them in the same order, and unchanged rows are not touched. Orders without a row are
//! copied in (`add`), known ones are merged (`merge`). Chat users are shared by orders and always merged. Facts only
//! grow: see the comments in the statements.

mod add;
mod merge;
mod people;
mod rows;
mod upsert;

pub use upsert::{Written, upsert};
