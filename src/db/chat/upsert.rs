//! One batch into all tables of the schema.

use sqlx::PgConnection;

use super::rows::read;
use super::{add, merge};
use crate::db::Error;
use crate::domain::Settlement;

/// Rows that a batch changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub messages_inserted: u64,
    /// Rows of `chat.messages` marked as removed are included.
    pub messages_updated: u64,
    pub users: u64,
}

/// Writes the conversations of the settlements. The caller has locked their queue rows in the same transaction.
///
/// COPY does not work where row level security applies to this role; then all orders are merged.
///
/// Fails with a unique violation if an order without a row in `chat.orders` has rows in other tables.
pub async fn upsert(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<Written, Error> {
    let (stored, new): (Vec<&Settlement>, Vec<&Settlement>) =
        settlements.iter().copied().partition(|settled| settled.chat.is_stored);
    let is_copied = new.is_empty() || !is_row_security_active(connection).await?;
    let (stored, new) = if is_copied { (stored, new) } else { (settlements.to_vec(), Vec::new()) };
    let added = add::orders(connection, &new).await?;
    let (inserted, updated) = merge::orders(connection, &stored).await?;
    // Last: orders of other workers share these rows, and a worker that writes the same ones waits until this commit.
    let users = merge::users(connection, &read(settlements)).await?;
    Ok(Written { messages_inserted: added + inserted, messages_updated: updated, users })
}

async fn is_row_security_active(connection: &mut PgConnection) -> Result<bool, Error> {
    let is_active = sqlx::query_scalar!(
        r#"-- is_row_security_active
           SELECT row_security_active('chat.orders') OR row_security_active('chat.messages')
               OR row_security_active('chat.participants') AS "is_active!""#
    );
    Ok(is_active.fetch_one(connection).await?)
}
