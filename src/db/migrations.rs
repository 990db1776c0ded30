//! The migrations, which are part of the program.

use std::collections::HashSet;

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};

use super::Error;

/// The first migration of the first release. Older versions in `sync.migrations` were never released.
const FIRST_MIGRATION: i64 = 20_261_128_100_100;

/// Lock id that makes migrations run one after the other. Any constant will do. Held within a transaction only.
const MIGRATION_LOCK: i64 = 0x6368_6174_7379_6e63;

/// Applies the embedded migrations in one transaction and returns how many were new.
///
/// Takes a transaction lock, so several processes migrate one after the other. [`Store`](super::Store) limits the wait for it and for
/// tables that a long query reads.
pub async fn migrate(connection: &mut PgConnection) -> Result<usize, Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("-- migrate\nSELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK).execute(&mut *transaction).await?;
    let before = applied(&mut transaction).await?;
    create_schemas(&mut transaction).await?;
    migrator().run_direct(None, &mut *transaction, false).await?;
    let after = applied(&mut transaction).await?;
    transaction.commit().await?;
    Ok(after.len() - before.len())
}

/// Names the tables of which row level security hides rows from this role; `None` if there are none. Takes no locks.
pub async fn row_security(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    let tables = sqlx::query_scalar!(
        "-- row_security
         SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid)
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('sync', 'chat') AND c.relkind = 'r' AND row_security_active(c.oid)"
    );
    Ok(tables.fetch_one(connection).await?)
}

/// Counts the migrations that are not applied yet.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    let applied = applied(connection).await?;
    Ok(migrator().iter().filter(|migration| !applied.contains(&migration.version)).count())
}

/// The table of the migrator is in schema sync, because schema public may not be writable. Its own lock would belong to
/// the session, so it is off; [`migrate`] locks within its transaction.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_locking(false);
    migrator.dangerous_set_table_name("sync.migrations");
    migrator
}

async fn create_schemas(connection: &mut PgConnection) -> Result<(), Error> {
    for (schema, create) in [("sync", "CREATE SCHEMA sync"), ("chat", "CREATE SCHEMA chat")] {
        let is_there = sqlx::query_scalar!(
            r#"-- schema_is_there
               SELECT to_regnamespace($1) IS NOT NULL AS "is_there!""#,
            schema
        )
        .fetch_one(&mut *connection)
        .await?;
        if !is_there {
            let created = sqlx::query(create).execute(&mut *connection).await.map_err(Error::from);
            created.map_err(|error| if error.lacks_rights() { Error::NoSchema { schema } } else { error })?;
        }
    }
    Ok(())
}

/// Returns the versions of the applied migrations. Fails if one was never released: its tables have other columns.
async fn applied(connection: &mut PgConnection) -> Result<HashSet<i64>, Error> {
    // Not to_regclass: its cache may still say that the table is missing, from before the lock was granted.
    let is_there = sqlx::query_scalar!(
        r#"-- missing_migrations
           SELECT EXISTS (
               SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = 'sync' AND c.relname = 'migrations'
           ) AS "is_there!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_there {
        return Ok(HashSet::new());
    }
    // Not checked at compile time: the migrator creates this table, no migration does.
    let versions: Vec<i64> =
        sqlx::query_scalar("-- applied_migrations\nSELECT version FROM sync.migrations WHERE success")
            .fetch_all(connection)
            .await?;
    if versions.iter().any(|version| *version < FIRST_MIGRATION) {
        return Err(Error::Unreleased);
    }
    Ok(versions.into_iter().collect())
}
