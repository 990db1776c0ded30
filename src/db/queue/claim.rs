//! Claims: orders leased for a run.

use std::time::Duration;

use chrono::{DateTime, Utc};
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
    let rows = sqlx::query_file_as!(
        ClaimRow,
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
        let place = Cursor { rank: row.rank, deadline_base: row.deadline_base, order_id: row.order_id.clone() };
        places.push(place.clone());
        match row.usable_id() {
            Ok(order_id) => claimed.push((place, row.order(order_id, lease)?)),
            Err(reason) => unusable.push((place.order_id, reason)),
        }
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

/// A row that was leased. It may hold what chatsync never writes.
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
struct ClaimRow {
    rank: i32,
    deadline_base: Option<DateTime<Utc>>,
    order_id: String,
    connect_user_id: Option<String>,
    token_kind: Option<String>,
    ids_internal: Option<bool>,
    retailer_id: Option<String>,
    failures: i32,
    counted_failures: i32,
    last_fetched_at: Option<DateTime<Utc>>,
    last_changed_at: Option<DateTime<Utc>>,
    expired_at: Option<DateTime<Utc>>,
    content_hash: Option<Vec<u8>>,
    reply_hash: Option<Vec<u8>>,
    is_stored: bool,
    has_messages: bool,
    enqueued_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    last_message_at: Option<DateTime<Utc>>,
    coverage: Option<String>,
    was_closed: bool,
    held_kind: Option<String>,
    held_since: Option<DateTime<Utc>>,
    held_times: Option<i32>,
    held_id_space: Option<String>,
    is_in_calendar: bool,
}

impl ClaimRow {
    /// Returns the id, or why the row cannot be used.
    fn usable_id(&self) -> Result<OrderId, &'static str> {
        let is_retailer = |id: &str| is_header_text(id) && id.len() <= OrderId::MAX_BYTES;
        let order_id = OrderId::new(self.order_id.clone()).map_err(|_| NOT_SENDABLE)?;
        if !self.retailer_id.as_deref().is_none_or(is_retailer) {
            return Err(NOT_SENDABLE);
        }
        if self.is_in_calendar { Ok(order_id) } else { Err(NOT_IN_CALENDAR) }
    }

    fn order(self, order_id: OrderId, lease: Lease) -> Result<ClaimedOrder, Error> {
        let coverage = self.coverage.map_or(Some(Coverage::Pending), |text| Coverage::parse(&text));
        let held_kind = self.held_kind.as_deref().and_then(HeldKind::parse);
        let held = match (held_kind, self.held_since, self.held_times, self.held_id_space) {
            (Some(kind), Some(since), Some(times), Some(id_space)) => Some(HeldResult { kind, since, times, id_space }),
            _ => None,
        };
        Ok(ClaimedOrder {
            order_id,
            lease,
            connect_user_id: self.connect_user_id,
            token_kind: self.token_kind.as_deref().and_then(TokenKind::parse),
            ids_internal: self.ids_internal,
            retailer_id: self.retailer_id,
            failures: self.failures,
            counted_failures: self.counted_failures,
            last_fetched_at: self.last_fetched_at,
            last_changed_at: self.last_changed_at,
            expired_at: self.expired_at,
            content_hash: self.content_hash,
            reply_hash: self.reply_hash,
            is_stored: self.is_stored,
            has_messages: self.has_messages,
            enqueued_at: self.enqueued_at,
            completed_at: self.completed_at,
            last_message_at: self.last_message_at,
            coverage: coverage.ok_or(Error::Decode { column: "orders.coverage" })?,
            was_closed: self.was_closed,
            held,
        })
    }
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
