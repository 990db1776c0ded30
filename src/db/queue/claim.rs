//! Claims: orders leased for a run.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::due::{Cursor, Scope, about_orders};
use crate::db::columns::query_columns;
use crate::db::runs::{self, Counters, Sent};
use crate::db::{Error, Store, Transaction, interval};
use crate::domain::{ClaimedOrder, Coverage, FailureKind, HeldKind, HeldResult, Lease, OrderId, TokenKind};

/// The result of a claim.
#[derive(Debug)]
pub struct Claimed {
    /// Claimed orders, nearest deadline first.
    pub orders: Vec<ClaimedOrder>,
    /// Orders that were given up at once because their rows cannot be used.
    pub unusable: Vec<String>,
    /// The position after all of them.
    pub next: Cursor,
}

/// Claims up to `limit` orders after `cursor`, nearest deadline first, under `lease`. Settles a row that cannot be used
/// as dead: its feeder must correct it.
///
/// Commit before any request: another worker could otherwise claim the same orders meanwhile. Locks the claimed rows
/// until then and skips locked ones. Repeated with the same lease it returns the same orders, because the reply of a
/// commit may be lost.
pub async fn claim(
    store: &Store,
    run_id: Uuid,
    scope: &Scope,
    cursor: &Cursor,
    limit: usize,
    lease: Lease,
    lease_length: Duration,
) -> Result<Claimed, Error> {
    let claim = |mut transaction: Transaction| async move {
        let claimed = lease_orders(&mut transaction, scope, cursor, limit, lease, lease_length).await?;
        let dead = claimed.unusable.len() as u64;
        if dead > 0 {
            runs::add(
                &mut transaction,
                run_id,
                &Counters { claimed: dead, dead, ..Counters::default() },
                Sent::default(),
            )
            .await?;
        }
        Ok(claimed)
    };
    about_orders(store, "claim", scope, claim).await
}

/// Leases the orders of a claim, as a part of its transaction.
pub(in crate::db) async fn lease_orders(
    connection: &mut PgConnection,
    scope: &Scope,
    cursor: &Cursor,
    limit: usize,
    lease: Lease,
    lease_length: Duration,
) -> Result<Claimed, Error> {
    let rows = sqlx::query_file!(
        "src/db/sql/claim.sql",
        scope.due_by,
        cursor.rank,
        cursor.deadline_base,
        cursor.order_id,
        scope.only.as_deref(),
        i64::try_from(limit).unwrap_or(i64::MAX),
        lease,
        interval(lease_length),
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut claimed, mut places, mut unusable) = (Vec::with_capacity(rows.len()), Vec::new(), Vec::new());
    for row in rows {
        let place = Cursor { rank: row.rank, deadline_base: row.deadline_base, order_id: row.order_id };
        places.push(place.clone());
        let is_sendable =
            row.retailer_id.as_deref().is_none_or(|id| is_header_text(id) && id.len() <= OrderId::MAX_BYTES);
        let order_id = match OrderId::new(place.order_id.clone()) {
            Ok(order_id) if is_sendable && row.is_in_calendar => order_id,
            usable => {
                let is_sendable = is_sendable && usable.is_ok();
                unusable.push((place.order_id, if is_sendable { NOT_IN_CALENDAR } else { NOT_SENDABLE }));
                continue;
            }
        };
        let coverage = row.coverage.map_or(Some(Coverage::Pending), |text| Coverage::parse(&text));
        let held_kind = row.held_kind.as_deref().and_then(HeldKind::parse);
        let held = match (held_kind, row.held_since, row.held_times, row.held_id_space) {
            (Some(kind), Some(since), Some(times), Some(id_space)) => Some(HeldResult { kind, since, times, id_space }),
            _ => None,
        };
        let order = ClaimedOrder {
            order_id,
            lease,
            connect_user_id: row.connect_user_id,
            token_kind: row.token_kind.as_deref().and_then(TokenKind::parse),
            ids_internal: row.ids_internal,
            retailer_id: row.retailer_id,
            failures: row.failures,
            counted_failures: row.counted_failures,
            last_fetched_at: row.last_fetched_at,
            last_changed_at: row.last_changed_at,
            expired_at: row.expired_at,
            content_hash: row.content_hash,
            reply_hash: row.reply_hash,
            is_stored: row.is_stored,
            has_messages: row.has_messages,
            enqueued_at: row.enqueued_at,
            completed_at: row.completed_at,
            last_message_at: row.last_message_at,
            coverage: coverage.ok_or(Error::Decode { column: "orders.coverage" })?,
            was_closed: row.was_closed,
            held,
        };
        claimed.push((place, order));
    }
    bury(connection, &unusable, lease).await?;
    // RETURNING returns rows in no particular order.
    claimed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Claimed {
        orders: claimed.into_iter().map(|(_, order)| order).collect(),
        unusable: unusable.into_iter().map(|(order_id, _)| order_id).collect(),
        next: places.into_iter().max().unwrap_or_else(|| cursor.clone()),
    })
}

const NOT_IN_CALENDAR: &str =
    "a time of its row in sync.order_queue is after the year 262000 or infinite; correct it, then chatsync retry";
const NOT_SENDABLE: &str =
    "its order_id or retailer_id cannot be sent in a request; delete the row and enqueue the order anew";

async fn bury(connection: &mut PgConnection, unusable: &[(String, &str)], lease: Lease) -> Result<(), Error> {
    if unusable.is_empty() {
        return Ok(());
    }
    let (order_ids, reasons): (Vec<&str>, Vec<&str>) = unusable.iter().map(|(id, reason)| (&**id, *reason)).unzip();
    let kind = FailureKind::BadRow.as_str();
    query_columns!(
        query_file "src/db/sql/bury.sql",
        order_id: &[&str] = &order_ids,
        reason: &[&str] = &reasons;
        lease,
        kind,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the text can be sent in a header.
fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
