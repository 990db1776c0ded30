//! Schema `chat`: the conversations that analysts query.
//!
//! [`upsert`] writes the conversations of a batch of settled orders, one statement per table. Rows are sorted by key,
//! so that concurrent workers lock them in the same order, and unchanged rows are not touched. Orders without a row are
//! copied in (`add`), known ones are merged (`merge`). Chat users are shared by orders and always merged. Facts only
//! grow: see the comments in the statements.

mod add;
mod merge;
mod people;

use sqlx::PgConnection;

use super::Error;
use crate::domain::{Conversation, Settlement};

/// Rows that a batch changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub messages_inserted: u64,
    /// Rows of `chat.messages` marked as removed are included.
    pub messages_updated: u64,
    pub users: u64,
}

type Read<'a> = (&'a Settlement, &'a Conversation);

/// Writes the conversations of the settlements. The caller has locked their queue rows in the same transaction.
///
/// COPY does not work where row level security applies to this role; then all orders are merged.
///
/// Fails with a unique violation if an order without a row in `chat.orders` has rows in other tables.
pub async fn upsert(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<Written, Error> {
    let (stored, new): (Vec<&Settlement>, Vec<&Settlement>) =
        settlements.iter().copied().partition(|settled| settled.is_stored);
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

/// The new value of the column; `None` keeps the old one: the reply had no messages.
fn messages_left_out(settled: &Settlement) -> Option<i32> {
    settled.has_messages().then(|| i32::try_from(settled.messages_left_out).unwrap_or(i32::MAX))
}

fn read<'a>(settlements: &[&'a Settlement]) -> Vec<Read<'a>> {
    settlements
        .iter()
        .filter_map(|settled| settled.conversation.as_ref().map(|conversation| (*settled, conversation)))
        .collect()
}
