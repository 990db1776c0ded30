//! `chatsync migrate` of a database of another version, or in use by another session.

use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use super::{migrate, with_empty_database};
use crate::support::{Finished, Lab, tests};

tests!(
    a_database_of_an_unreleased_version_is_refused,
    an_older_database_keeps_its_rows,
    a_migration_does_not_wait_long_for_a_table_in_use,
);

async fn a_database_of_an_unreleased_version_is_refused(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        migrate(&lab, url).await?.expect_code(0);
        let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
        sqlx::query("UPDATE sync.migrations SET version = 20261122000100 WHERE version = (SELECT min(version) FROM sync.migrations)")
            .execute(&mut connection)
            .await?;
        for arguments in [&["migrate"][..], &["status"], &["enqueue"]] {
            let mut command = lab.with_database(arguments);
            command.env("DATABASE_URL", url);
            let refused = Finished::of_input(command, b"A-1\n").await?.expect_code(1);
            assert!(refused.stderr.contains("unreleased version of chatsync; hint: start with a new database"));
        }
        Ok(())
    })
    .await
}

async fn an_older_database_keeps_its_rows(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        let mut connection = older(url).await?;
        sqlx::query("INSERT INTO sync.order_queue (order_id) VALUES ('A-1')").execute(&mut connection).await?;
        migrate(&lab, url).await?.expect_code(0);
        let orders: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sync.order_queue").fetch_one(&mut connection).await?;
        assert_eq!(orders, 1);
        Ok(())
    })
    .await
}

async fn a_migration_does_not_wait_long_for_a_table_in_use(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        let mut connection = older(url).await?;
        sqlx::raw_sql("BEGIN; LOCK TABLE sync.migrations IN SHARE MODE").execute(&mut connection).await?;
        let refused = migrate(&lab, url).await?.expect_code(1);
        assert!(refused.stderr.contains("another session uses one of its tables"), "{}", refused.stderr);
        sqlx::raw_sql("ROLLBACK").execute(&mut connection).await?;
        migrate(&lab, url).await?.expect_code(0);
        Ok(())
    })
    .await
}

/// Applies all migrations but the last to an empty database.
async fn older(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
    sqlx::raw_sql("CREATE SCHEMA sync; CREATE SCHEMA chat").execute(&mut connection).await?;
    let mut migrations: Vec<_> = sqlx::migrate!().iter().cloned().collect();
    migrations.pop();
    let mut migrator = sqlx::migrate::Migrator::with_migrations(migrations);
    migrator.set_locking(false);
    migrator.dangerous_set_table_name("sync.migrations");
    migrator.run_direct(None, &mut connection, false).await?;
    Ok(connection)
}
