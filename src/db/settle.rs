//! Settling: one transaction per batch that writes conversations, rejects and counters, and the queue rows that they
//! settle.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::columns::{column, query_columns};
use super::queue::{self, Cursor, Scope};
use super::runs::{self, Counters, Sent};
use super::{Error, Store, Transaction, chat, interval, rejects};
use crate::domain::{ClaimedOrder, Lease, Loss, QueueChange, Settlement, TokenKind, Verdict};

/// Why a batch was not written.
#[derive(Debug)]
pub struct NotWritten {
    pub error: Error,
    /// Whether `sync.rejects` refused a row.
    pub is_of_rejects: bool,
}

/// Writes a batch in one transaction; `sent` are the requests and 429s of the run so far. Returns the settlements whose
/// lease still held, and writes nothing for the others.
pub async fn write<'a>(
    store: &Store,
    run_id: Uuid,
    settlements: &[&'a Settlement],
    sent: Sent,
) -> Result<Vec<&'a Settlement>, NotWritten> {
    // Set while rejects are written, so that a failure there is recognised.
    let at_rejects = &AtomicBool::new(false);
    let write = |mut transaction: Transaction| async move {
        at_rejects.store(false, Relaxed);
        // The queue first: it shows which leases still hold, and its row locks keep other workers away until the
        // commit. Anything written before could belong to an order that another worker has taken over.
        let held = settle_queue(&mut transaction, settlements).await?;
        let kept = still_held(settlements, &held);
        let written = chat::upsert(&mut transaction, &kept).await?;
        at_rejects.store(true, Relaxed);
        rejects::insert(&mut transaction, run_id, &kept).await?;
        at_rejects.store(false, Relaxed);
        let counters = Counters {
            messages_inserted: written.messages_inserted,
            messages_updated: written.messages_updated,
            users_written: written.users,
            ..count(&kept)
        };
        runs::add(&mut transaction, run_id, &counters, sent).await?;
        Ok(kept)
    };
    let written = store.run_by_key("settle", write).await;
    written.map_err(|error| NotWritten { error, is_of_rejects: at_rejects.load(Relaxed) })
}

/// Settles held orders by `decide`, due or not, without a run. Skips orders that a worker holds. Returns those that were
/// claimed for it.
pub async fn settle_held(
    store: &Store,
    order_ids: &[String],
    lease_length: Duration,
    decide: impl Fn(&ClaimedOrder, DateTime<Utc>) -> Option<Settlement> + Sync,
) -> Result<Vec<ClaimedOrder>, Error> {
    let (lease, decide) = (Lease::new_v4(), &decide);
    let settle = |mut transaction: Transaction| async move {
        let now = sqlx::query_scalar!("-- now\nSELECT now() AS \"now!\"").fetch_one(&mut *transaction).await?;
        let scope = Scope { due_by: now + TimeDelta::days(36_525), only: Some(order_ids.to_vec()) };
        let start = Cursor::start();
        let claimed =
            queue::lease_orders(&mut transaction, &scope, &start, order_ids.len(), lease, lease_length).await?;
        let mut settlements: Vec<Settlement> = claimed.orders.iter().filter_map(|order| decide(order, now)).collect();
        settlements.sort_unstable_by(|one, other| one.order_id.cmp(&other.order_id));
        let settlements: Vec<&Settlement> = settlements.iter().collect();
        settle_queue(&mut transaction, &settlements).await?;
        chat::upsert(&mut transaction, &settlements).await?;
        Ok(claimed.orders)
    };
    store.run("settle", settle).await
}

/// Writes the new state of each order whose lease still holds, and returns these orders. Nothing may be written for the
/// others: another worker may hold them. Locks the rows until the transaction ends.
async fn settle_queue(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<HashSet<String>, Error> {
    let queue = |value: fn(&QueueChange) -> Option<DateTime<Utc>>| column(settlements, |settled| value(&settled.queue));
    let settled = query_columns!(
        query_file_scalar "src/db/sql/settle.sql",
        order_id: &[&str] = &column(settlements, |settled| settled.order_id.as_str()),
        lease_id: &[Uuid] = &column(settlements, |settled| settled.queue.lease),
        state: &[&str] = &column(settlements, |settled| settled.queue.state.as_str()),
        due_in: &[PgInterval] = &column(settlements, |settled| interval(settled.queue.due_in)),
        failures: &[i32] = &column(settlements, |settled| settled.queue.failures),
        error_kind: &[Option<&str>] = &column(settlements, |settled| settled.attempt.note.as_ref().map(|note| note.kind.as_str())),
        error: &[Option<&str>] =
            &column(settlements, |settled| settled.attempt.note.as_ref().map(|note| note.text.as_str())),
        fetched_at: &[Option<DateTime<Utc>>] = &queue(|queue| queue.fetched_at),
        content_hash: &[Option<&[u8]>] = &column(settlements, |settled| settled.queue.content_hash.as_deref()),
        expired_at: &[Option<DateTime<Utc>>] = &queue(|queue| queue.expired_at),
        closed_at: &[Option<DateTime<Utc>>] =
            &column(settlements, |settled| settled.chat.order.and_then(|order| order.closed_at)),
        asked_at: &[DateTime<Utc>] = &column(settlements, |settled| settled.attempt.asked_at),
        counted_failures: &[i32] = &column(settlements, |settled| settled.queue.counted_failures),
        latency_ms: &[i32] = &column(settlements, |settled| int(settled.attempt.latency().num_milliseconds())),
        requests: &[i32] = &column(settlements, |settled| int(settled.attempt.requests.into())),
        http_status: &[Option<i16>] =
            &column(settlements, |settled| settled.attempt.http_status.and_then(|status| status.try_into().ok())),
        outcome: &[&str] = &column(settlements, |settled| settled.outcome()),
        reply_hash: &[Option<&[u8]>] = &column(settlements, |settled| settled.queue.reply_hash.as_deref()),
        token_kind: &[Option<&str>] = &column(settlements, |settled| settled.queue.token_kind.map(TokenKind::as_str)),
        held_kind: &[Option<&str>] =
            &column(settlements, |settled| settled.queue.held.as_ref().map(|held| held.kind.as_str())),
        held_since: &[Option<DateTime<Utc>>] =
            &queue(|queue| queue.held.as_ref().map(|held| held.since)),
        held_times: &[Option<i32>] = &column(settlements, |settled| settled.queue.held.as_ref().map(|held| held.times)),
        held_id_space: &[Option<&str>] =
            &column(settlements, |settled| settled.queue.held.as_ref().map(|held| held.id_space.as_str())),
    )
    .fetch_all(connection)
    .await?;
    Ok(settled.into_iter().collect())
}

/// Converts to the type of the column; larger values become its maximum.
fn int(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn still_held<'a>(settlements: &[&'a Settlement], held: &HashSet<String>) -> Vec<&'a Settlement> {
    let kept: Vec<_> = settlements.iter().copied().filter(|settled| held.contains(settled.order_id.as_str())).collect();
    if kept.len() < settlements.len() {
        let orders = settlements.len() - kept.len();
        tracing::warn!(orders, "leases had ended before their orders were written; these orders are fetched again");
    }
    kept
}

fn count(kept: &[&Settlement]) -> Counters {
    let mut counters = Counters { claimed: kept.len() as u64, ..Counters::default() };
    for settled in kept {
        counters.messages_left_out += settled.chat.messages_left_out as u64;
        counters.lost += u64::from(settled.loss == Some(Loss::Unread));
        counters.unproven += u64::from(settled.loss == Some(Loss::Unproven));
        match settled.verdict {
            Verdict::Changed => counters.fetched += 1,
            Verdict::Unchanged => {
                counters.fetched += 1;
                counters.unchanged += 1;
            }
            Verdict::Closed => counters.closed += 1,
            Verdict::Failed => counters.failed += 1,
            Verdict::Dead => counters.dead += 1,
            Verdict::Held => counters.held += 1,
        }
    }
    counters
}
