//! What is known about one order, for `chatsync why`: its queue row, its last attempts and what they wrote, its
//! rejects, and how much is stored. Reads one snapshot, by key. Contains no chat text and no names.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{Error, Store, Transaction};
use crate::domain::{Coverage, HeldKind, OrderState, TokenKind};

#[derive(Debug)]
pub struct OrderReport {
    /// Time of the snapshot.
    pub now: DateTime<Utc>,
    pub order: QueuedOrder,
    pub coverage: Coverage,
    pub stored: Stored,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// How many pieces of replies could not be decoded.
    pub reject_count: u64,
    /// The latest of them, newest first.
    pub rejects: Vec<Reject>,
    /// Workers with a run in progress, if the order is leased. A lease does not say which worker holds it.
    pub workers: Vec<String>,
}

#[derive(Debug)]
pub struct QueuedOrder {
    pub order_id: String,
    pub state: OrderState,
    pub connect_user_id: Option<String>,
    pub token_kind: Option<TokenKind>,
    pub ids_internal: Option<bool>,
    pub retailer_id: Option<String>,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub failures: i32,
    pub lease_id: Option<Uuid>,
    pub leased_until: Option<DateTime<Utc>>,
    pub last_error_kind: Option<String>,
    pub last_error: Option<String>,
    pub last_fetched_at: Option<DateTime<Utc>>,
    pub last_changed_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    pub expired_at: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
    pub enqueued_at: DateTime<Utc>,
    pub source: Option<String>,
    pub deadline_base: DateTime<Utc>,
    pub held_kind: Option<HeldKind>,
    pub held_since: Option<DateTime<Utc>>,
    pub held_times: Option<i32>,
}

#[derive(Debug, Serialize)]
pub struct Stored {
    /// Rows of `chat.messages`, removed ones included.
    pub messages: i64,
    /// Messages that the API no longer returns.
    pub removed: i64,
    pub first_message_at: Option<DateTime<Utc>>,
    pub last_message_at: Option<DateTime<Utc>>,
    pub participants: i64,
}

/// An element of `sync.order_queue.history`, with the messages that its transaction wrote.
#[derive(Debug, Serialize)]
pub struct Attempt {
    pub asked_at: Option<DateTime<Utc>>,
    pub settled_at: Option<DateTime<Utc>>,
    pub latency_ms: Option<i32>,
    pub requests: Option<i32>,
    pub http_status: Option<i16>,
    pub outcome: Option<String>,
    pub messages_inserted: i64,
    /// Messages that it changed last: a later change hides an earlier one.
    pub messages_updated: i64,
}

/// A row of `sync.rejects`, without the body.
#[derive(Debug, Serialize)]
pub struct Reject {
    pub received_at: DateTime<Utc>,
    pub http_status: Option<i16>,
    pub kind: String,
    pub json_path: String,
    pub reason: String,
}

/// Looks up an order; `None` if it is not in the queue. Lists at most `most_rejects` rejects. Takes no locks.
pub async fn order_report(store: &Store, order_id: &str, most_rejects: i64) -> Result<Option<OrderReport>, Error> {
    let look = |mut snapshot: Transaction| async move { rows(&mut snapshot, order_id, most_rejects).await };
    // One snapshot: otherwise an attempt settled meanwhile could show in one query and not in another.
    store.read("why", look).await
}

async fn rows(snapshot: &mut PgConnection, order_id: &str, most_rejects: i64) -> Result<Option<OrderReport>, Error> {
    let row = sqlx::query_file!("src/db/sql/why.sql", order_id).fetch_optional(&mut *snapshot).await?;
    let Some(row) = row else { return Ok(None) };
    let (attempts, reject_count, rejects) = (
        attempts(&mut *snapshot, order_id).await?,
        count_rejects(&mut *snapshot, order_id).await?,
        rejects(&mut *snapshot, order_id, most_rejects).await?,
    );
    let is_held = row.leased_until.is_some_and(|until| until > row.now);
    let workers = if is_held { workers(&mut *snapshot).await? } else { Vec::new() };
    let coverage = match row.coverage {
        None => Coverage::Pending,
        Some(text) => Coverage::parse(&text).ok_or(Error::Decode { column: "orders.coverage" })?,
    };
    let order = QueuedOrder {
        order_id: row.order_id,
        state: OrderState::parse(&row.state).ok_or(Error::Decode { column: "order_queue.state" })?,
        connect_user_id: row.connect_user_id,
        token_kind: row.token_kind.as_deref().and_then(TokenKind::parse),
        ids_internal: row.ids_internal,
        retailer_id: row.retailer_id,
        priority: row.priority,
        due_at: row.due_at,
        failures: row.failures,
        lease_id: row.lease_id,
        leased_until: row.leased_until,
        last_error_kind: row.last_error_kind,
        last_error: row.last_error,
        last_fetched_at: row.last_fetched_at,
        last_changed_at: row.last_changed_at,
        completed_at: row.completed_at,
        expired_at: row.expired_at,
        closed_at: row.closed_at,
        enqueued_at: row.enqueued_at,
        source: row.source,
        deadline_base: row.deadline_base,
        held_kind: row.held_kind.as_deref().and_then(HeldKind::parse),
        held_since: row.held_since,
        held_times: row.held_times,
    };
    let stored = Stored {
        messages: row.messages,
        removed: row.removed,
        first_message_at: row.first_message_at,
        last_message_at: row.last_message_at,
        participants: row.participants,
    };
    Ok(Some(OrderReport { now: row.now, order, coverage, stored, attempts, reject_count, rejects, workers }))
}

async fn attempts(connection: &mut PgConnection, order_id: &str) -> Result<Vec<Attempt>, Error> {
    // The defaults of chat.messages and settled_at are the time of the same transaction, so equality is exact.
    let attempts = sqlx::query_as!(
        Attempt,
        r#"-- attempts
           SELECT sync.within_calendar(a.asked_at) AS asked_at, sync.within_calendar(a.settled_at) AS settled_at, a.latency_ms, a.requests, a.http_status, a.outcome,
                  m.inserted AS "messages_inserted!", m.updated AS "messages_updated!"
           FROM sync.order_queue AS q
           CROSS JOIN LATERAL unnest(q.history) WITH ORDINALITY
                AS a (asked_at, settled_at, latency_ms, requests, http_status, outcome, place)
           CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE first_synced_at = a.settled_at) AS inserted,
                      count(*) FILTER (WHERE updated_at = a.settled_at AND first_synced_at < a.settled_at) AS updated
               FROM chat.messages
               WHERE order_id = q.order_id
           ) AS m
           WHERE q.order_id = $1
           ORDER BY a.place"#,
        order_id,
    )
    .fetch_all(connection)
    .await?;
    Ok(attempts)
}

async fn count_rejects(connection: &mut PgConnection, order_id: &str) -> Result<u64, Error> {
    let count = sqlx::query_scalar!(
        r#"-- count_rejects
           SELECT count(*) AS "count!" FROM sync.rejects WHERE order_id = $1"#,
        order_id
    )
    .fetch_one(connection)
    .await?;
    Ok(count.unsigned_abs())
}

async fn rejects(connection: &mut PgConnection, order_id: &str, most: i64) -> Result<Vec<Reject>, Error> {
    let rejects = sqlx::query_as!(
        Reject,
        r#"-- rejects
           SELECT sync.within_calendar(received_at) AS "received_at!", http_status, kind, json_path, reason
           FROM sync.rejects
           WHERE order_id = $1
           ORDER BY reject_id DESC
           LIMIT $2"#,
        order_id,
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rejects)
}

async fn workers(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let workers = sqlx::query_scalar!(
        "-- running_workers
             SELECT worker FROM sync.runs WHERE status = 'running' AND alive_until > now() ORDER BY 1"
    )
    .fetch_all(connection)
    .await?;
    Ok(workers)
}
