//! The cost of the queue statements when most orders have ended: the plans of PostgreSQL for the real statements, on a
//! table large enough to offer a choice; and which updates touch no index.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chatsync::db;
use chatsync::db::queue::{self, Cursor, Scope};
use chatsync::db::runs::Sent;
use chatsync::domain::{Conversation, Lease, Outcome, QueuePolicy, settle};
use chrono::Utc;
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::support::{Lab, store, tests};

tests!(
    no_statement_reads_more_of_a_large_queue_than_it_needs,
    a_batch_is_written_without_reading_a_whole_table,
    claims_and_renewals_touch_no_index,
);

/// A statement, the parameter types that cannot be inferred, arguments, and the indexes of the queue that it may use.
struct Statement {
    name: &'static str,
    sql: &'static str,
    types: &'static str,
    arguments: &'static str,
    indexes: &'static [&'static str],
}

macro_rules! statement {
    ($name:literal $types:literal $arguments:literal $indexes:expr) => {
        Statement {
            name: $name,
            sql: include_str!(concat!("../../src/db/sql/", $name, ".sql")),
            types: $types,
            arguments: $arguments,
            indexes: &$indexes,
        }
    };
}

const CLAIM: &str = "order_queue_claim";
const DUE: &str = "order_queue_due";
const ENDED: &str = "order_queue_ended";
const KEY: &str = "order_queue_pkey";

const STATEMENTS: [Statement; 15] = [
    statement!("claim" "" "now(), 0, 'epoch', '', '{live-100,live-200}', 500, gen_random_uuid(), '1 minute'" [KEY]),
    statement!("due" "" "now(), '{live-100,live-200}', 50000, '1 minute'" [KEY]),
    statement!("count_due" "" "now(), NULL" [DUE]),
    statement!("overview" "" "" [CLAIM, ENDED]),
    statement!("plan_near" "(interval, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz)"
        "'1 day', now(), now(), now(), now() + interval '6 hours', now() - interval '18 hours'" [CLAIM, DUE]),
    statement!("plan_totals" "" "'1 day', now(), NULL, NULL, NULL, now()" [CLAIM]),
    statement!("plan_last" "" "100, now()" [CLAIM]),
    statement!("plan_missed" "(bigint, interval, float8, bigint, timestamptz)" "NULL, '1 day', 0.01, 5, now()" [CLAIM]),
    statement!("plan_missed_later" "" "'1 day', now(), NULL, NULL, NULL, 5, now()" [CLAIM]),
    statement!("failing" "" "" [CLAIM, ENDED]),
    statement!("why" "" "'ended-1'" [KEY]),
    // An empty list implies every condition, so any partial index would do.
    statement!("retry" "" "true, '{}', NULL" [ENDED, KEY, "order_queue_held"]),
    statement!("retry" "" "false, '{ended-1}', now() - interval '2 days'" [ENDED, KEY]),
    statement!("forget" "" "'90 days', 5000" [ENDED]),
    statement!("enqueue" "" "ARRAY['ended-1', 'new'], '{NULL, NULL}', '{NULL, NULL}', '{NULL, NULL}', '{0, 0}', '{NULL, NULL}', 'test', false, gen_random_uuid(), NULL, NULL, NULL, NULL" [KEY]),
];

/// The queries of a run about everything due, as it sends them.
const OF_A_RUN: [Statement; 3] = [
    statement!("due" "" "now(), NULL, 50000, '1 minute'" [DUE]),
    statement!("claim" "" "now(), -2147483648, 'epoch', '', NULL, 500, gen_random_uuid(), '1 minute'" [CLAIM]),
    statement!("claim" "" "now(), 0, '2026-01-01', 'x', NULL, 500, gen_random_uuid(), '1 minute'" [CLAIM]),
];

async fn no_statement_reads_more_of_a_large_queue_than_it_needs(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut connection = lab.pool.acquire().await?;
    // Vacuum marks a page as all-visible only once the commit of its rows is on disk.
    sqlx::query("SET synchronous_commit = on").execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, state, due_at, content_hash, history)
         SELECT CASE WHEN n % 100 = 0 THEN 'live-' ELSE 'ended-' END || n,
                CASE WHEN n % 100 = 0 THEN 'open' WHEN n % 100 < 5 THEN 'closed' WHEN n % 100 = 5 THEN 'quiet'
                     WHEN n % 10000 = 6 THEN 'dead' ELSE 'expired' END,
                now() + CASE WHEN n % 1000 = 0 THEN interval '-1 hour' WHEN n % 100 = 0 THEN interval '1 hour'
                             ELSE interval '-300 days' * n / 200000 END,
                -- As wide as rows are after some reads.
                sha256(''), array_fill(ROW (now(), now(), 100, 1, 200, 'unchanged')::sync.attempt, ARRAY[4])
         FROM generate_series(1, 200000) AS n",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query("VACUUM ANALYZE sync.order_queue").execute(&mut *connection).await?;
    for statement in &STATEMENTS {
        let scans = scans(&mut connection, statement).await?;
        ensure!(!scans.is_empty(), "{} has nothing to do with the queue?", statement.name);
        for scan in scans {
            ensure!(statement.indexes.contains(&&*scan), "{} ({}): {scan}", statement.name, statement.arguments);
        }
    }
    // Claims continue after the last one, and must not sort all due orders each time.
    for statement in &OF_A_RUN {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(db::BY_KEY).execute(&mut *transaction).await?;
        assert_eq!(scans(&mut transaction, statement).await?, statement.indexes, "{}", statement.name);
    }
    // Without the index the check would fail.
    sqlx::query("DROP INDEX sync.order_queue_ended").execute(&mut *connection).await?;
    let retry = STATEMENTS.iter().find(|statement| statement.name == "retry").context("retry")?;
    assert_eq!(scans(&mut connection, retry).await?, ["Seq Scan"]);
    Ok(())
}

/// The statements of each batch, from the first look to the last upsert. One order each: the plan is the same for any
/// number.
const OF_A_BATCH: [Statement; 9] = [
    statement!("due" "" "now(), NULL, 50000, '1 minute'" []),
    statement!("claim" "" "now(), -2147483648, 'epoch', '', NULL, 500, gen_random_uuid(), '1 minute'" []),
    statement!("settle" "" "'{order-1}', ARRAY[gen_random_uuid()], '{open}', '{1 h}', '{0}', '{NULL}', '{NULL}', ARRAY[now()], '{NULL}', '{NULL}', '{NULL}', ARRAY[now()], '{0}', '{1}', '{1}', '{200}', '{read}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}'" []),
    statement!("upsert_messages" "" "'{order-1}', '{1}', '{1}', '{0}', '{NULL}', '{user}', '{1}', '{driver}', '{2}', '{true}', '{NULL}', '{a}', '{NULL}', '{NULL}', '{NULL}', '{false}'" []),
    statement!("mark_removed" "" "'{order-1}', ARRAY[now()], '{order-1,order-1}', '{1,2}'" []),
    statement!("upsert_users" "" "'{user}', '{1}', '{a}', '{b}', ARRAY[now()]" []),
    statement!("relieve_shoppers" "" "'{order-1}', '{2}'" []),
    statement!("upsert_participants" "" "'{order-1}', '{user}', '{1}', '{customer}', '{false}'" []),
    statement!("upsert_orders" "" "'{order-1}', '{open}', '{captured_open}', '{NULL}', '{1}', '{1}', '{2}', '{true}', '{0}'" []),
];

async fn a_batch_is_written_without_reading_a_whole_table(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut connection = lab.pool.acquire().await?;
    // With statistics from an idle moment, as autovacuum collects them: no order is leased.
    sqlx::raw_sql(
        "INSERT INTO sync.order_queue (order_id) SELECT 'order-' || n FROM generate_series(1, 2000) AS n;
         INSERT INTO chat.orders (order_id, status, coverage)
             SELECT order_id, 'open', 'captured_open' FROM sync.order_queue;
         INSERT INTO chat.messages (order_id, message_id, position)
             SELECT order_id, n, n FROM sync.order_queue CROSS JOIN generate_series(1, 3) AS n;
         INSERT INTO chat.users (user_type, user_id, observed_at) SELECT 'user', n, now() FROM generate_series(1, 2000) AS n;
         INSERT INTO chat.participants (order_id, user_type, user_id, role)
             SELECT order_id, 'user', 1, 'customer' FROM sync.order_queue;
         ANALYZE sync.order_queue, chat.orders, chat.messages, chat.users, chat.participants",
    )
    .execute(&mut *connection)
    .await?;
    let mut would_read = Vec::new();
    for statement in &OF_A_BATCH {
        if !read_whole(&plan(&mut connection, statement).await?[0]["Plan"]).is_empty() {
            would_read.push(statement.name);
        }
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(db::BY_KEY).execute(&mut *transaction).await?;
        let plan = plan(&mut transaction, statement).await?;
        assert_eq!(read_whole(&plan[0]["Plan"]), Vec::<String>::new(), "{}: {plan:#}", statement.name);
        // A reply may have 10,000 messages: no plan may compare all pairs.
        let is_hashed = plan.to_string().contains("NOT (hashed SubPlan");
        assert_eq!(is_hashed, statement.name == "mark_removed", "{plan:#}");
    }
    // Without the settings the check would fail.
    ensure!(would_read.contains(&"upsert_orders"), "only {would_read:?}");
    Ok(())
}

/// Tables that are scanned completely, except the columns of the batch.
fn read_whole(node: &Value) -> Vec<String> {
    let is_whole = match node["Node Type"].as_str() {
        Some("Seq Scan" | "Parallel Seq Scan" | "Bitmap Heap Scan") => true,
        // The claim reads its index in due order, up to its limit.
        Some("Index Scan" | "Index Only Scan") => node["Index Cond"].is_null(),
        _ => false,
    };
    let own = is_whole.then(|| node["Relation Name"].to_string());
    let below = node["Plans"].as_array().into_iter().flatten().flat_map(read_whole);
    own.into_iter().chain(below).collect()
}

/// How a statement reads the queue: the indexes, or the kind of scan.
async fn scans(connection: &mut PgConnection, statement: &Statement) -> anyhow::Result<Vec<String>> {
    let plan = plan(connection, statement).await?;
    let mut scans = Vec::new();
    collect(&plan[0]["Plan"], &mut scans);
    Ok(scans)
}

async fn plan(connection: &mut PgConnection, statement: &Statement) -> anyhow::Result<Value> {
    let Statement { sql, types, arguments, .. } = statement;
    let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE explained {types} AS {sql}"))).execute(&mut *connection).await?;
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE explained {arguments}");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *connection).await?;
    sqlx::raw_sql("DEALLOCATE explained").execute(connection).await?;
    Ok(plan)
}

fn collect(node: &Value, scans: &mut Vec<String>) {
    let text = |key: &str| node[key].as_str();
    match (text("Node Type").unwrap_or_default(), text("Index Name"), text("Relation Name")) {
        (_, Some(index), _) if index.starts_with("order_queue") => scans.push(index.to_owned()),
        // The index is named by the node below, or the row is found by another node.
        ("Bitmap Heap Scan" | "Tid Scan" | "ModifyTable", ..) => {}
        (scan, None, Some("order_queue")) => scans.push(scan.to_owned()),
        _ => {}
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, scans);
    }
}

async fn claims_and_renewals_touch_no_index(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["order"]).await?;
    // One session, which reports its statistics.
    let pool = PgPoolOptions::new().max_connections(1).connect(lab.url()).await?;
    let store = &store(pool.clone());
    let minute = Duration::from_mins(1);
    let policy = QueuePolicy {
        max_failures: 8,
        retry_backoff: minute,
        retry_backoff_max: minute,
        refresh_after: minute,
        readable_window: Duration::from_hours(24),
        quiet_after: Duration::from_hours(24),
    };
    let run_id = Uuid::new_v4();
    let scope = &Scope { due_by: sqlx::query_scalar("SELECT now()").fetch_one(&pool).await?, only: None };
    let start = &Cursor::start();
    let claim = queue::claim(store, run_id, scope, start, 1, Lease::new_v4(), minute);
    let (claimed, stayed) = in_place(&pool, claim).await?;
    ensure!(stayed, "the claim");
    let order = claimed.orders.into_iter().next().context("an order")?;
    let held = [(order.order_id.clone(), order.lease)];
    let ((), stayed) = in_place(&pool, queue::renew(store, run_id, &held, minute)).await?;
    ensure!(stayed, "the renewal");
    // Check that an update of the other kind is detected.
    let expired = Outcome::Read(Conversation { is_expired: Some(true), ..Conversation::default() }, Vec::new());
    let settlement = &settle(&order, expired, Utc::now(), Utc::now(), &policy, 0.5);
    let write = async {
        let written = db::settle::write(store, run_id, &[settlement], Sent::default()).await;
        written.map_err(|refusal| refusal.error)
    };
    let (_, stayed) = in_place(&pool, write).await?;
    ensure!(!stayed, "an order that ends moves from one index to the other");
    Ok(())
}

/// Changes one queue row. Also returns whether the row stayed in place.
async fn in_place<T>(pool: &PgPool, work: impl Future<Output = Result<T, db::Error>>) -> anyhow::Result<(T, bool)> {
    let before = updates(pool).await?;
    let done = work.await?;
    let after = updates(pool).await?;
    ensure!(after.0 == before.0 + 1, "{} rows were updated", after.0 - before.0);
    Ok((done, after.1 > before.1))
}

/// The updates of the queue so far, and those that touched no index.
async fn updates(pool: &PgPool) -> anyhow::Result<(i64, i64)> {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await?;
    let updates = "SELECT pg_stat_get_tuples_updated('sync.order_queue'::regclass),
                          pg_stat_get_tuples_hot_updated('sync.order_queue'::regclass)";
    Ok(sqlx::query_as(updates).fetch_one(pool).await?)
}
