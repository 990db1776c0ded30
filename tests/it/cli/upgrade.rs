//! `chatsync migrate` of a database that an older version has used: what is in it, and who is using it.

use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use super::{migrate, with_database, with_empty_database};
use crate::support::{Lab, tests};

tests!(
    an_older_database_in_another_language_keeps_all_its_rows,
    a_view_in_the_way_of_a_migration_is_named,
    a_migration_does_not_wait_long_for_a_table_in_use,
);

/// The last version that compared keys in the language of the database.
const BY_LANGUAGE: i64 = 20_261_127_000_100;

const ROWS: &str = "
    INSERT INTO sync.order_queue (order_id) SELECT unnest('{a,B,b,A,Ä}'::text[]);
    INSERT INTO chat.orders (order_id, status, coverage) SELECT order_id, 'open', 'pending' FROM sync.order_queue;
    INSERT INTO chat.messages (order_id, message_id, position) SELECT order_id, 1, 0 FROM sync.order_queue;
    UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = 'infinity' WHERE order_id = 'a'";

async fn an_older_database_in_another_language_keeps_all_its_rows(lab: Arc<Lab>) -> anyhow::Result<()> {
    let has_icu = "SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')";
    let has_icu: bool = sqlx::query_scalar(has_icu).fetch_one(&lab.pool).await?;
    let language = if has_icu { "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'" } else { "" };
    with_database(&lab, language, async |url| {
        let mut connection = older(url).await?;
        let in_order = "SELECT string_agg(order_id, '' ORDER BY order_id) FROM chat.orders";
        let before: String = sqlx::query_scalar(in_order).fetch_one(&mut connection).await?;
        assert!(!has_icu || before == "aAÄbB", "{before}");
        migrate(&lab, url).await?.expect_code(0);

        let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
        let after: String = sqlx::query_scalar(in_order).fetch_one(&mut connection).await?;
        assert_eq!(after, "ABabÄ", "by bytes");
        let found = "SELECT count(*)
                     FROM unnest('{a,B,b,A,Ä}'::text[]) AS t (order_id)
                     JOIN sync.order_queue USING (order_id)
                     JOIN chat.messages USING (order_id)";
        sqlx::query("SET enable_seqscan = off").execute(&mut connection).await?;
        let found: i64 = sqlx::query_scalar(found).fetch_one(&mut connection).await?;
        assert_eq!(found, 5);
        let leased = "SELECT count(*) FROM sync.order_queue WHERE leased_until IS NOT NULL";
        let leased: i64 = sqlx::query_scalar(leased).fetch_one(&mut connection).await?;
        assert_eq!(leased, 0, "an infinite lease is none");
        Ok(())
    })
    .await
}

async fn a_view_in_the_way_of_a_migration_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let view = "CREATE VIEW talk AS SELECT order_id, body FROM chat.messages";
    is_refused_until(&lab, view, "the definitions of talk and of views on them, drop them", "DROP VIEW talk").await
}

async fn a_migration_does_not_wait_long_for_a_table_in_use(lab: Arc<Lab>) -> anyhow::Result<()> {
    let query = "BEGIN; SELECT FROM chat.messages";
    is_refused_until(&lab, query, "another session uses one of its tables", "ROLLBACK").await
}

/// Migrating an older database fails with this complaint while the obstacle is there, and works after the remedy.
async fn is_refused_until(
    lab: &Lab,
    obstacle: &'static str,
    complaint: &str,
    remedy: &'static str,
) -> anyhow::Result<()> {
    with_empty_database(lab, async |url| {
        let mut connection = older(url).await?;
        sqlx::raw_sql(obstacle).execute(&mut connection).await?;
        let refused = migrate(lab, url).await?.expect_code(1);
        assert!(refused.stderr.contains(complaint), "{}", refused.stderr);
        sqlx::raw_sql(remedy).execute(&mut connection).await?;
        migrate(lab, url).await?.expect_code(0);
        Ok(())
    })
    .await
}

/// Brings an empty database to an older version, with some rows in it.
async fn older(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
    let migrations = sqlx::migrate!().iter().filter(|migration| migration.version <= BY_LANGUAGE).cloned().collect();
    let mut migrator = sqlx::migrate::Migrator::with_migrations(migrations);
    migrator.set_locking(false).create_schema("sync");
    migrator.dangerous_set_table_name("sync.migrations");
    migrator.run_direct(None, &mut connection, false).await?;
    sqlx::raw_sql(ROWS).execute(&mut connection).await?;
    Ok(connection)
}
