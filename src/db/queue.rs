//! The work queue, `sync.order_queue`: enqueue, claim, settle.
//!
//! A claim commits before any HTTP request. Every later write repeats the lease of the claim and changes nothing once
//! the lease is lost. Leases and due times use the clock of the database.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Error, interval};
use crate::domain::{
    ClaimedOrder, Coverage, FailureKind, HeldKind, HeldResult, IdSpace, Lease, NewOrder, OrderId, OrderState,
    Settlement, TokenKind,
};

/// Counts of a batch of enqueued orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// Orders that were new.
    pub added: u64,
    /// Known orders that were reopened or completed.
    pub updated: u64,
}

/// One call of `chatsync enqueue`, or of another feeder.
#[derive(Debug, Clone)]
pub struct Feeding {
    /// Distinguishes its lines from those of other calls.
    pub id: Uuid,
    /// A file name, `stdin`, or another description of the origin.
    pub source: String,
    /// Fetch known orders again, whatever their state.
    pub reopen: bool,
    /// Default of the user, for lines that name none.
    pub connect_user_id: Option<String>,
    /// Default of the kind of ids.
    pub ids_internal: Option<bool>,
    /// Default of the banner.
    pub retailer_id: Option<String>,
    /// Default of the priority.
    pub priority: Option<i16>,
}

impl Feeding {
    /// A feed without defaults.
    #[must_use]
    pub fn of(source: impl Into<String>) -> Self {
        Self {
            id: Uuid::new_v4(),
            source: source.into(),
            reopen: false,
            connect_user_id: None,
            ids_internal: None,
            retailer_id: None,
            priority: None,
        }
    }
}

/// Adds orders, or completes known ones. Locks their rows in key order. Repeated after a lost reply, it changes nothing
/// but counts the added orders as known.
pub async fn enqueue(executor: impl PgExecutor<'_>, orders: &[NewOrder], feeding: &Feeding) -> Result<Enqueued, Error> {
    let orders = each_once(orders);
    let order_ids: Vec<&str> = orders.iter().map(|order| order.order_id.as_str()).collect();
    let users: Vec<Option<&str>> = orders.iter().map(|order| order.connect_user_id.as_deref()).collect();
    let internal: Vec<Option<bool>> = orders.iter().map(|order| order.ids_internal).collect();
    let retailers: Vec<Option<&str>> = orders.iter().map(|order| order.retailer_id.as_deref()).collect();
    let priorities: Vec<Option<i16>> = orders.iter().map(|order| order.priority).collect();
    let completed: Vec<Option<DateTime<Utc>>> = orders.iter().map(|order| order.completed_at).collect();
    let counts = sqlx::query_file!(
        "src/db/sql/enqueue.sql",
        &order_ids as &[&str],
        &users as &[Option<&str>],
        &internal as &[Option<bool>],
        &retailers as &[Option<&str>],
        &priorities as &[Option<i16>],
        &completed as &[Option<DateTime<Utc>>],
        feeding.source,
        feeding.reopen,
        feeding.id,
        feeding.connect_user_id,
        feeding.ids_internal,
        feeding.retailer_id,
        feeding.priority,
    )
    .fetch_one(executor)
    .await?;
    Ok(Enqueued { added: counts.added.unsigned_abs(), updated: counts.updated.unsigned_abs() })
}

/// Counts the orders without a user: live ones, and those given up for that reason.
pub async fn count_without_user(executor: impl PgExecutor<'_>) -> Result<u64, Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "orders!"
           FROM sync.order_queue
           WHERE connect_user_id IS NULL AND (ended_at IS NULL OR (state = 'dead' AND last_error_kind = 'no_user'))"#
    );
    Ok(count.fetch_one(executor).await?.unsigned_abs())
}

/// Merges lines of the same order, later lines over earlier ones. The result is sorted by id.
fn each_once(orders: &[NewOrder]) -> Vec<Cow<'_, NewOrder>> {
    let mut sorted: Vec<&NewOrder> = orders.iter().collect();
    sorted.sort_by(|one, other| one.order_id.cmp(&other.order_id));
    let mut merged: Vec<Cow<'_, NewOrder>> = Vec::with_capacity(sorted.len());
    for order in sorted {
        match merged.last_mut() {
            Some(last) if last.order_id == order.order_id => last.to_mut().merge(order),
            _ => merged.push(Cow::Borrowed(order)),
        }
    }
    merged
}

/// The orders of a run.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Only orders due by this time, the start of the run. Otherwise a run would never end.
    pub due_by: DateTime<Utc>,
    /// Only these orders, if set.
    pub only: Option<Vec<String>>,
}

/// A position in the queue, in due order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    rank: i32,
    deadline_base: Option<DateTime<Utc>>,
    order_id: String,
}

impl Cursor {
    /// Before the first order.
    #[must_use]
    pub fn start() -> Self {
        Self { rank: i32::MIN, deadline_base: None, order_id: String::new() }
    }
}

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
        let is_sendable = row.retailer_id.as_deref().is_none_or(is_header_text);
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
    sqlx::query_file!("src/db/sql/bury.sql", &order_ids as &[&str], lease, kind, &reasons as &[&str])
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the text can be sent in a header.
fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Writes the new state of each order whose lease still holds, and returns these orders. Nothing may be written for the
/// others: another worker may hold them. Locks the rows until the transaction ends.
pub async fn settle(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<HashSet<String>, Error> {
    let column = |of: fn(&Settlement) -> Option<DateTime<Utc>>| -> Vec<Option<DateTime<Utc>>> {
        settlements.iter().copied().map(of).collect()
    };
    let order_ids: Vec<&str> = settlements.iter().map(|settled| settled.order_id.as_str()).collect();
    let leases: Vec<Uuid> = settlements.iter().map(|settled| settled.lease).collect();
    let states: Vec<&str> = settlements.iter().map(|settled| settled.state.as_str()).collect();
    let due_ins: Vec<PgInterval> = settlements.iter().map(|settled| interval(settled.due_in)).collect();
    let failures: Vec<i32> = settlements.iter().map(|settled| settled.failures).collect();
    let kinds: Vec<Option<&str>> =
        settlements.iter().map(|settled| settled.note.as_ref().map(|(kind, _)| *kind)).collect();
    let errors: Vec<Option<&str>> =
        settlements.iter().map(|settled| settled.note.as_ref().map(|(_, text)| text.as_str())).collect();
    let statuses: Vec<Option<i16>> =
        settlements.iter().map(|settled| settled.http_status.and_then(|status| status.try_into().ok())).collect();
    let hashes: Vec<Option<&[u8]>> = settlements.iter().map(|settled| settled.content_hash.as_deref()).collect();
    let held: Vec<Option<&HeldResult>> = settlements.iter().map(|settled| settled.held.as_ref()).collect();
    let settled = sqlx::query_file_scalar!(
        "src/db/sql/settle.sql",
        &order_ids as &[&str],
        &leases,
        &states as &[&str],
        &due_ins,
        &failures,
        &kinds as &[Option<&str>],
        &errors as &[Option<&str>],
        &column(|settled| settled.fetched_at) as &[Option<DateTime<Utc>>],
        &hashes as &[Option<&[u8]>],
        &column(|settled| settled.expired_at) as &[Option<DateTime<Utc>>],
        &column(|settled| settled.order.and_then(|order| order.closed_at)) as &[Option<DateTime<Utc>>],
        &settlements.iter().map(|settled| settled.asked_at).collect::<Vec<_>>(),
        &settlements.iter().map(|settled| settled.counted_failures).collect::<Vec<_>>(),
        &settlements.iter().map(|settled| int(settled.latency().num_milliseconds())).collect::<Vec<_>>(),
        &settlements.iter().map(|settled| int(settled.requests.into())).collect::<Vec<_>>(),
        &statuses as &[Option<i16>],
        &settlements.iter().map(|settled| settled.outcome()).collect::<Vec<_>>() as &[&str],
        &settlements.iter().map(|settled| settled.reply_hash.as_deref()).collect::<Vec<_>>() as &[Option<&[u8]>],
        &settlements.iter().map(|settled| settled.token_kind.map(TokenKind::as_str)).collect::<Vec<_>>()
            as &[Option<&str>],
        &held.iter().map(|held| held.map(|held| held.kind.as_str())).collect::<Vec<_>>() as &[Option<&str>],
        &held.iter().map(|held| held.map(|held| held.since)).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &held.iter().map(|held| held.map(|held| held.times)).collect::<Vec<_>>() as &[Option<i32>],
        &held.iter().map(|held| held.map(|held| held.id_space.as_str())).collect::<Vec<_>>() as &[Option<&str>],
    )
    .fetch_all(connection)
    .await?;
    Ok(settled.into_iter().collect())
}

/// Extends leases that still hold, in place. Skips rows that are locked, for instance by a settlement: waiting for them
/// could deadlock.
pub async fn renew(
    executor: impl PgExecutor<'_>,
    held: &[(OrderId, Lease)],
    lease_length: Duration,
) -> Result<(), Error> {
    let (order_ids, leases) = columns(held);
    sqlx::query!(
        "WITH held AS (
             SELECT q.order_id
             FROM sync.order_queue AS q
             JOIN unnest($1::text[], $2::uuid[]) AS b (order_id, lease_id)
               ON q.order_id = b.order_id AND q.lease_id = b.lease_id
             -- Do not revive an expired lease: another worker may be about to take the order over.
             WHERE q.leased_until > now()
             FOR UPDATE OF q SKIP LOCKED
         )
         UPDATE sync.order_queue AS q SET leased_until = now() + $3 FROM held WHERE q.order_id = held.order_id",
        &order_ids as &[&str],
        &leases,
        interval(lease_length),
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Releases claimed orders unchanged, in place.
pub async fn release(executor: impl PgExecutor<'_>, held: &[(OrderId, Lease)]) -> Result<(), Error> {
    let (order_ids, leases) = columns(held);
    sqlx::query!(
        "UPDATE sync.order_queue AS q
         SET lease_id = NULL, leased_until = NULL
         FROM unnest($1::text[], $2::uuid[]) AS b (order_id, lease_id)
         WHERE q.order_id = b.order_id AND q.lease_id = b.lease_id",
        &order_ids as &[&str],
        &leases,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Counts the orders of a run, leased ones included.
pub async fn count_due(executor: impl PgExecutor<'_>, scope: &Scope) -> Result<u64, Error> {
    let count = sqlx::query_file_scalar!("src/db/sql/count_due.sql", scope.due_by, scope.only.as_deref())
        .fetch_one(executor)
        .await?;
    Ok(count.unsigned_abs())
}

#[derive(Debug, Clone)]
pub struct Due {
    /// Orders, at most as many as are looked at.
    pub orders: u64,
    /// At most this many of them are free.
    pub free: u64,
    /// Time until the first lease ends; `None` if no lease is held.
    pub free_in: Option<Duration>,
    /// A position before all of them.
    pub from: Cursor,
}

/// Limits how many orders are looked at, so that a long queue does not delay the start of a run.
const LOOKED_AT: i64 = 50_000;

/// Looks at what is left of a run, leased orders included; `None` if nothing is.
pub async fn due(executor: impl PgExecutor<'_>, scope: &Scope, lease_length: Duration) -> Result<Option<Due>, Error> {
    let lease_length = interval(lease_length);
    let due = sqlx::query_file!("src/db/sql/due.sql", scope.due_by, scope.only.as_deref(), LOOKED_AT, lease_length)
        .fetch_one(executor)
        .await?;
    let Some(rank) = due.rank else { return Ok(None) };
    let (free, from) = if due.orders < LOOKED_AT {
        // No id is empty, so this is before all of them.
        (due.free.unsigned_abs(), Cursor { rank, deadline_base: due.deadline_base, order_id: String::new() })
    } else {
        (u64::MAX, Cursor::start())
    };
    Ok(Some(Due { orders: due.orders.unsigned_abs(), free, free_in: due.free_in.map(Duration::from_secs_f64), from }))
}

/// Makes live orders due now. Returns the states of those of `order_ids` that are in the queue.
pub async fn make_due(
    executor: impl PgExecutor<'_>,
    order_ids: &[String],
) -> Result<BTreeMap<String, OrderState>, Error> {
    let rows = sqlx::query!(
        "WITH due AS (
             UPDATE sync.order_queue SET due_at = now()
             WHERE order_id = ANY ($1) AND state IN ('pending', 'open') AND due_at > now()
         )
         SELECT order_id, state FROM sync.order_queue WHERE order_id = ANY ($1)",
        order_ids,
    )
    .fetch_all(executor)
    .await?;
    let parse = |state: &str| OrderState::parse(state).ok_or(Error::Decode { column: "order_queue.state" });
    rows.into_iter().map(|row| Ok((row.order_id, parse(&row.state)?))).collect()
}

/// Returns those of `order_ids` that are not in the queue.
pub async fn unknown(executor: impl PgExecutor<'_>, order_ids: &[String]) -> Result<Vec<String>, Error> {
    let unknown = sqlx::query_scalar!(
        r#"SELECT t.order_id AS "order_id!"
           FROM unnest($1::text[]) AS t (order_id)
           WHERE NOT EXISTS (SELECT FROM sync.order_queue AS q WHERE q.order_id = t.order_id)"#,
        order_ids,
    )
    .fetch_all(executor)
    .await?;
    Ok(unknown)
}

/// Selects held orders; all of them by default.
#[derive(Debug, Clone, Default)]
pub struct HeldFilter {
    pub kinds: Option<Vec<HeldKind>>,
    pub order_ids: Option<Vec<String>>,
}

/// Returns the next `limit` held orders after `after` with their kinds, sorted by id. Takes no locks.
pub async fn held(
    executor: impl PgExecutor<'_>,
    filter: &HeldFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, String)>, Error> {
    let kinds =
        filter.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.as_str().to_owned()).collect::<Vec<_>>());
    let rows = sqlx::query!(
        r#"SELECT order_id, held_kind AS "held_kind!"
           FROM sync.order_queue
           WHERE held_kind IS NOT NULL
             AND state IN ('pending', 'open')
             AND ($1::text[] IS NULL OR held_kind = ANY ($1))
             AND ($2::text[] IS NULL OR order_id = ANY ($2))
             AND order_id > $3
           ORDER BY order_id
           LIMIT $4"#,
        kinds.as_deref(),
        filter.order_ids.as_deref(),
        after,
        limit,
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (row.order_id, row.held_kind)).collect())
}

/// Counts the held orders by kind.
pub async fn count_held(executor: impl PgExecutor<'_>) -> Result<BTreeMap<HeldKind, u64>, Error> {
    let rows = sqlx::query!(
        r#"SELECT held_kind AS "held_kind!", count(*) AS "orders!"
           FROM sync.order_queue
           WHERE held_kind IS NOT NULL AND state IN ('pending', 'open')
           GROUP BY held_kind"#
    )
    .fetch_all(executor)
    .await?;
    let parse = |kind: &str| HeldKind::parse(kind).ok_or(Error::Decode { column: "order_queue.held_kind" });
    rows.into_iter().map(|row| Ok((parse(&row.held_kind)?, row.orders.unsigned_abs()))).collect()
}

/// Orders that are fetched only to learn something about an id space or a user. They are not settled.
#[derive(Debug, Clone, Copy)]
pub enum Witnesses<'a> {
    /// Readable orders: well read within `window`, and not completed longer ago.
    Readable { id_space: &'a IdSpace, window: Duration, users: &'a [String] },
    /// Other orders: first those of other users, then those that were well read.
    Others {
        /// Orders to leave out.
        order_ids: &'a [String],
        users: &'a [String],
    },
}

/// Limits how many live orders are looked at from each end of the queue.
const WITNESSES_AMONG: i64 = 2_000;

/// Returns up to `limit` witnesses without claiming them; their replies are never stored. `defaults` is the id space of
/// orders that override nothing. Takes no locks.
pub async fn witnesses(
    executor: impl PgExecutor<'_>,
    which: Witnesses<'_>,
    defaults: &IdSpace,
    limit: i64,
) -> Result<Vec<ClaimedOrder>, Error> {
    let (id_space, window, order_ids, users): (_, _, &[String], &[String]) = match which {
        Witnesses::Readable { id_space, window, users } => (Some(id_space), Some(interval(window)), &[], users),
        Witnesses::Others { order_ids, users } => (None, None, order_ids, users),
    };
    let rows = sqlx::query_file!(
        "src/db/sql/witnesses.sql",
        id_space.map(|space| &*space.retailer_id),
        id_space.map(|space| space.ids_internal),
        &*defaults.retailer_id,
        defaults.ids_internal,
        window,
        order_ids,
        users,
        WITNESSES_AMONG,
        limit,
    )
    .fetch_all(executor)
    .await?;
    // Skip ids that cannot be sent.
    let witness = rows.into_iter().filter_map(|row| {
        Some(ClaimedOrder {
            connect_user_id: row.connect_user_id,
            token_kind: row.token_kind.as_deref().and_then(TokenKind::parse),
            ids_internal: row.ids_internal,
            retailer_id: row.retailer_id,
            ..ClaimedOrder::unclaimed(OrderId::new(row.order_id).ok()?, row.enqueued_at)
        })
    });
    Ok(witness.collect())
}

/// Returns those of `users` with at least `orders` live orders. Reads all live orders once. Takes no locks.
pub async fn large_users(executor: impl PgExecutor<'_>, users: &[String], orders: i64) -> Result<Vec<String>, Error> {
    let large = sqlx::query_scalar!(
        r#"SELECT connect_user_id AS "connect_user_id!"
           FROM sync.order_queue
           WHERE state IN ('pending', 'open') AND connect_user_id = ANY ($1)
           GROUP BY connect_user_id
           HAVING count(*) >= $2"#,
        users,
        orders,
    )
    .fetch_all(executor)
    .await?;
    Ok(large)
}

/// Selects the orders of `chatsync retry`.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// All dead orders.
    pub dead: bool,
    /// These orders, in any state.
    pub order_ids: Vec<String>,
    /// Orders closed at or after this time.
    pub closed_since: Option<DateTime<Utc>>,
}

/// Makes orders due now, with no failures counted. Returns how many. Locks their rows.
pub async fn retry(executor: impl PgExecutor<'_>, retry: &Retry) -> Result<u64, Error> {
    let result = sqlx::query_file!("src/db/sql/retry.sql", retry.dead, &retry.order_ids, retry.closed_since)
        .execute(executor)
        .await?;
    Ok(result.rows_affected())
}

/// Deletes up to `limit` orders that ended longer ago than `retention`, except dead ones. Returns how many. Locks them
/// until the transaction ends and skips locked rows. Repeated, it deletes others.
pub async fn forget(executor: impl PgExecutor<'_>, retention: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query_file!("src/db/sql/forget.sql", interval(retention), limit).execute(executor).await?;
    Ok(result.rows_affected())
}

/// Counts of the queue.
#[derive(Debug, Clone)]
pub struct Overview {
    /// By state; states without orders are missing.
    pub by_state: BTreeMap<OrderState, u64>,
    pub due: u64,
    pub leased: u64,
    /// Live orders whose last reply was a failure or not fully understood.
    pub failing: u64,
    /// Due time of the due order that has waited longest.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// The nearest deadline of the live orders, before adding `queue.readable_window`.
    pub nearest_deadline_base: Option<DateTime<Utc>>,
}

impl Overview {
    #[must_use]
    pub fn orders(&self, state: OrderState) -> u64 {
        self.by_state.get(&state).copied().unwrap_or(0)
    }
}

pub async fn overview(executor: impl PgExecutor<'_>) -> Result<Overview, Error> {
    let rows = sqlx::query_file!("src/db/sql/overview.sql").fetch_all(executor).await?;
    let mut overview = Overview {
        by_state: BTreeMap::new(),
        due: 0,
        leased: 0,
        failing: 0,
        oldest_due_at: None,
        nearest_deadline_base: None,
    };
    let earliest = |one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>| one.into_iter().chain(other).min();
    for row in rows {
        let state = OrderState::parse(&row.state).ok_or(Error::Decode { column: "order_queue.state" })?;
        overview.by_state.insert(state, row.orders.unsigned_abs());
        overview.due += row.due.unsigned_abs();
        overview.leased += row.leased.unsigned_abs();
        overview.failing += row.failing.unsigned_abs();
        overview.oldest_due_at = earliest(overview.oldest_due_at, row.oldest_due_at);
        overview.nearest_deadline_base = earliest(overview.nearest_deadline_base, row.nearest_deadline_base);
    }
    Ok(overview)
}

/// Orders with the same kind of failure.
#[derive(Debug, Serialize)]
pub struct Failing {
    /// As in `sync.order_queue.last_error_kind`.
    pub kind: String,
    pub failing: i64,
    pub dead: i64,
    /// A few examples, live ones first.
    pub examples: Vec<String>,
}

/// Groups failing and dead orders by kind, the most frequent first. Reads all live orders.
pub async fn failing(executor: impl PgExecutor<'_>) -> Result<Vec<Failing>, Error> {
    Ok(sqlx::query_file_as!(Failing, "src/db/sql/failing.sql").fetch_all(executor).await?)
}

/// Converts to the type of the column; larger values become its maximum.
fn int(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn columns(held: &[(OrderId, Lease)]) -> (Vec<&str>, Vec<Uuid>) {
    held.iter().map(|(order_id, lease)| (order_id.as_str(), *lease)).unzip()
}
