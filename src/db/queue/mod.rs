//! The work queue, `sync.order_queue`.
//!
//! A claim commits before any HTTP request. Every later write repeats the lease of the claim and changes nothing once
//! the lease is lost (`db::settle`). Leases and due times use the clock of the database.

mod claim;
mod due;
mod enqueue;
mod held;
mod holders;
mod lease;
mod overview;
mod put_back;
mod witnesses;

pub(super) use claim::lease_orders;
pub use claim::{Claimed, claim};
pub use due::{Cursor, Due, Scope, count_due, due};
pub use enqueue::{Defaults, Enqueued, Feeding, count_without_user, enqueue};
pub(super) use held::count_held;
pub use held::{HeldFilter, held};
pub use holders::holders_of_orders;
pub use lease::{release, renew};
pub(super) use overview::overview;
pub use overview::{Failing, Overview, failing};
pub use put_back::{Retried, Retry, forget, make_due, retry};
pub use witnesses::{Witnesses, large_users, witnesses};
