//! A server that ends sessions, refuses log-ins for a while, or becomes read-only, with various codes.

use std::sync::Arc;
use std::time::Duration;

use chatsync::config::Patience;
use chatsync::db::{Store, Transaction};
use chatsync::waits::Waits;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::several::{stored, undisturbed};
use super::{FOUND_LOSSES, Process, behind_a_door, feed, until};
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Finished, Lab, eventually, tests};

tests!(
    a_run_waits_for_log_ins_that_are_refused_for_a_while,
    a_session_that_the_server_ends_is_replaced,
    a_connection_to_a_server_that_takes_no_writes_is_closed,
    single_statements_of_commands_outlive_a_fail_over,
    operations_share_the_connections_that_a_pooler_gives,
);

const ORDERS: i32 = 300;

async fn a_run_waits_for_log_ins_that_are_refused_for_a_while(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[("database.url", proxy.url())]))?;
    door.arrivals(32).await;
    // Poolers have codes that only they use.
    proxy.refuse_log_ins(&["53300", "XX000", "57P03", "08P01", "58000", "55000", "0A000", "ZZ999"]);
    proxy.cut(Ending::Fin);
    door.open();
    let log = sync.ends_with(FOUND_LOSSES).await?;
    assert!(log.contains("the database is away") && log.contains("the database is back"), "{log}");
    assert_eq!(stored(&lab).await?, undisturbed(&lab, ORDERS).await?);
    Ok(())
}

async fn a_session_that_the_server_ends_is_replaced(lab: Arc<Lab>) -> anyhow::Result<()> {
    let store = store(lab.url(), 1).await?;
    for setting in ["idle_in_transaction_session_timeout", "transaction_timeout", ""] {
        let is_known = format!("SELECT count(*) FROM pg_settings WHERE name = '{setting}'");
        let is_known: i64 = sqlx::query_scalar(AssertSqlSafe(is_known)).fetch_one(&lab.pool).await?;
        if !setting.is_empty() && is_known == 0 {
            continue;
        }
        let mut sessions = Vec::new();
        let other = &lab.pool;
        let sessions_seen = &mut sessions;
        let pid = store
            .run("pid", |mut transaction| {
                let is_first = sessions_seen.is_empty();
                sessions_seen.push(());
                async move {
                    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *transaction).await?;
                    if is_first {
                        let end = if setting.is_empty() {
                            format!("SELECT pg_terminate_backend({pid})::text")
                        } else {
                            format!("SELECT set_config('{setting}', '20ms', true)")
                        };
                        let sql = sqlx::query(AssertSqlSafe(end));
                        if setting.is_empty() {
                            sql.execute(other).await?;
                        } else {
                            sql.execute(&mut *transaction).await?;
                        }
                        is_gone(other, pid).await?;
                    }
                    // The reply is FATAL, with the code of the setting.
                    sqlx::query("SELECT 1").execute(&mut *transaction).await?;
                    Ok(pid)
                }
            })
            .await?;
        assert!(pid > 0 && sessions.len() == 2, "{setting}: {} tries", sessions.len());
    }
    Ok(())
}

async fn is_gone(pool: &PgPool, pid: i32) -> Result<(), sqlx::Error> {
    let is_there = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    while sqlx::query_scalar::<_, bool>(is_there).bind(pid).fetch_one(pool).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn a_connection_to_a_server_that_takes_no_writes_is_closed(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    // The reason is logged once, and the cut may come first.
    let more = [("database.url", proxy.url()), ("log.level", "debug")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.arrivals(32).await;
    read_only(&lab, "on").await?;
    proxy.cut(Ending::Fin);
    door.open();
    sync.logs("SQLSTATE 25006").await?;
    // Only new sessions may write, as when the name of the server leads to another one.
    read_only(&lab, "off").await?;
    sync.ends_with(FOUND_LOSSES).await?;
    assert_eq!(stored(&lab).await?, undisturbed(&lab, ORDERS).await?);
    Ok(())
}

async fn single_statements_of_commands_outlive_a_fail_over(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_only(&lab, "on").await?;
    let enqueue = Process::start_with_input(&lab, lab.with_database(&["enqueue"]), b"order-1\n").await?;
    enqueue.logs("SQLSTATE 25006").await?;
    read_only(&lab, "off").await?;
    enqueue.ends_with(0).await?;
    until(&lab, "SELECT count(*) = 1 FROM sync.order_queue").await?;
    Finished::of(lab.with_database(&["retry", "--order", "order-1"])).await?.expect_code(0);
    Ok(())
}

/// Whether new sessions are read-only.
async fn read_only(lab: &Lab, is_on: &str) -> anyhow::Result<()> {
    let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&lab.pool).await?;
    let set =
        format!("SET TRANSACTION READ WRITE; ALTER DATABASE {database} SET default_transaction_read_only = {is_on}");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&lab.pool).await?;
    Ok(())
}

async fn store(url: &str, connections: u32) -> anyhow::Result<Store> {
    let pool = PgPoolOptions::new().max_connections(connections).connect(url).await?;
    let patience = Patience { timeout: Duration::from_secs(30), give_up_after: Duration::from_secs(30) };
    Ok(Store::new(pool, patience, CancellationToken::new(), Waits::default()))
}

async fn operations_share_the_connections_that_a_pooler_gives(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::with_sessions(lab.url(), 1)?;
    let pool = PgPoolOptions::new().max_connections(3).connect_lazy(proxy.url())?;
    // A database that is away would fail them.
    let patience = Patience { timeout: Duration::from_secs(30), give_up_after: Duration::ZERO };
    let store = Store::new(pool.clone(), patience, CancellationToken::new(), Waits::default());
    let release = Arc::new(Notify::new());
    let mut operations = JoinSet::new();
    for number in 0..5 {
        let (store, release) = (store.clone(), Arc::clone(&release));
        operations.spawn(async move {
            let operation = |mut transaction: Transaction| {
                let release = &release;
                async move {
                    if number == 0 {
                        release.notified().await;
                    }
                    Ok(sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(&mut *transaction).await?)
                }
            };
            store.run("pid", operation).await
        });
    }
    eventually("one has the connection, and two ask for others", async || Ok((pool.size() == 3).then_some(()))).await?;
    release.notify_one();
    while let Some(done) = operations.join_next().await {
        done??;
    }
    Ok(())
}
