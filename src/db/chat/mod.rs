//! Schema `chat`: the conversations that analysts query.
//!
//! [`upsert`] writes those of a batch of settled orders set by set: one statement per table, rows sorted by key so
//! that concurrent workers lock them in one order, and no row touched whose content is the same. Orders that have no
//! row yet are added without looking (`add`); known ones are merged (`merge`). Chat users are shared by orders and
//! always merged. Facts only grow: see the comments in the statements.

mod add;
mod merge;
mod people;

use sqlx::PgConnection;

use super::Error;
use crate::domain::{Conversation, Settlement};

/// Rows that a batch changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Added to `chat.messages`.
    pub messages_inserted: u64,
    /// Changed in `chat.messages`, marked as removed included.
    pub messages_updated: u64,
    /// Added to or changed in `chat.users`.
    pub users: u64,
}

/// A read order with its conversation.
type Read<'a> = (&'a Settlement, &'a Conversation);

/// Writes what the settlements bring. The caller holds their queue rows locked, in the same transaction.
///
/// Where row level security is in force for this role, nothing can be copied: then all are merged.
///
/// Fails with a unique violation if an order that is not stored has one of these rows nevertheless.
pub async fn upsert(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<Written, Error> {
    let (stored, new): (Vec<&Settlement>, Vec<&Settlement>) =
        settlements.iter().copied().partition(|settled| settled.is_stored);
    let is_copied = new.is_empty() || !is_row_security_active(connection).await?;
    let (stored, new) = if is_copied { (stored, new) } else { (settlements.to_vec(), Vec::new()) };
    let added = add::orders(connection, &new).await?;
    let (inserted, updated) = merge::orders(connection, &stored).await?;
    // Last: these rows are shared, and whoever writes the same ones next waits for the commit.
    let users = merge::users(connection, &read(settlements)).await?;
    Ok(Written { messages_inserted: added + inserted, messages_updated: updated, users })
}

async fn is_row_security_active(connection: &mut PgConnection) -> Result<bool, Error> {
    let is_active = sqlx::query_scalar!(
        r#"SELECT row_security_active('chat.orders') OR row_security_active('chat.messages')
               OR row_security_active('chat.participants') AS "is_active!""#
    );
    Ok(is_active.fetch_one(connection).await?)
}

/// What `chat.orders` says of messages that could not be stored; `None` leaves what it says: the reply held no message.
fn messages_left_out(settled: &Settlement) -> Option<i32> {
    settled.has_messages().then(|| i32::try_from(settled.messages_left_out).unwrap_or(i32::MAX))
}

fn read<'a>(settlements: &[&'a Settlement]) -> Vec<Read<'a>> {
    settlements
        .iter()
        .filter_map(|settled| settled.conversation.as_ref().map(|conversation| (*settled, conversation)))
        .collect()
}
