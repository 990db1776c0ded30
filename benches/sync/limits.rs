//! The limits of PostgreSQL itself: bulk loads of the rows that a first run has written, without a worker.

use std::path::Path;

use sqlx::{AssertSqlSafe, PgPool};

use crate::lab::Lab;
use crate::sample::Sample;

const TABLES: [&str; 4] = ["orders", "users", "messages", "participants"];

/// Copies of the tables, and empty tables to load.
pub(crate) struct Limits<'a> {
    lab: &'a Lab,
    orders: u32,
    messages: u64,
}

impl<'a> Limits<'a> {
    /// Copies the rows of `chat` and `sync.order_queue`.
    pub(crate) async fn prepare(lab: &'a Lab, orders: u32, messages: u64) -> anyhow::Result<Self> {
        let pool = lab.pool();
        Self::clear(pool).await?;
        sqlx::query("CREATE SCHEMA bench").execute(pool).await?;
        for table in TABLES {
            let file = file(&lab.postgres.data_directory(), table);
            run(pool, format!("COPY chat.{table} TO '{file}' (FORMAT binary)")).await?;
            run(pool, format!("CREATE TABLE bench.staged_{table} AS SELECT * FROM chat.{table}")).await?;
            run(pool, format!("VACUUM (ANALYZE) bench.staged_{table}")).await?;
            create_like(pool, &format!("chat.{table}"), &format!("bench.copied_{table}")).await?;
            create_like(pool, &format!("chat.{table}"), &format!("bench.upserted_{table}")).await?;
        }
        create_like(pool, "sync.order_queue", "bench.order_queue").await?;
        let columns = columns(pool, "sync.order_queue", "").await?;
        run(pool, format!("INSERT INTO bench.order_queue ({columns}) SELECT {columns} FROM sync.order_queue")).await?;
        run(pool, "VACUUM (ANALYZE) bench.order_queue".to_owned()).await?;
        Ok(Self { lab, orders, messages })
    }

    /// Measures `COPY` into empty tables, one transaction each.
    pub(crate) async fn copy(&self) -> anyhow::Result<Sample> {
        let data = self.lab.postgres.data_directory();
        let statements =
            TABLES.map(|table| format!("COPY bench.copied_{table} FROM '{}' (FORMAT binary)", file(&data, table)));
        self.measure(statements.into()).await
    }

    /// Measures `INSERT … SELECT … ON CONFLICT` from staging tables, one transaction each. The first call finds empty
    /// tables, the second the same rows.
    pub(crate) async fn upsert(&self) -> anyhow::Result<Sample> {
        let mut statements = Vec::new();
        for table in TABLES {
            statements.push(upsert_statement(self.lab.pool(), table).await?);
        }
        self.measure(statements).await
    }

    /// Measures the queue's updates: one that claims every order, one that settles it as unchanged.
    pub(crate) async fn queue(&self) -> anyhow::Result<Sample> {
        let claim = "UPDATE bench.order_queue
                     SET lease_id = '01234567-89ab-7cde-8f01-23456789abcd', leased_until = now() + interval '60 s'";
        let settle = "UPDATE bench.order_queue
                      SET state = 'open', due_at = now() + interval '6 h', failures = 0, counted_failures = 0,
                          last_error_kind = NULL, last_error = NULL, last_fetched_at = now(),
                          history = history[cardinality(history) - 6:]
                                    || ARRAY[ROW (now(), now(), 5, 1, 200, 'unchanged')::sync.attempt],
                          lease_id = NULL, leased_until = NULL";
        self.measure(vec![claim.to_owned(), settle.to_owned()]).await
    }

    /// Removes the copies.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        Self::clear(self.lab.pool()).await
    }

    async fn clear(pool: &PgPool) -> anyhow::Result<()> {
        run(pool, "DROP SCHEMA IF EXISTS bench CASCADE".to_owned()).await
    }

    async fn measure(&self, statements: Vec<String>) -> anyhow::Result<Sample> {
        let work = async {
            for statement in statements {
                run(self.lab.pool(), statement).await?;
            }
            Ok(())
        };
        let (sample, ()) = self.lab.measure(self.orders, self.messages, work).await?;
        Ok(sample.elsewhere())
    }
}

/// Measures `COPY` of these orders' rows, under other ids, into the tables that hold them: what more rows in the
/// tables cost PostgreSQL itself. Leaves out users, which would be the same. Deletes the rows afterwards.
pub(crate) async fn copy_on_top(lab: &Lab, order_ids: Vec<String>, messages: u64) -> anyhow::Result<Sample> {
    let (pool, tables) = (lab.pool(), ["orders", "messages", "participants"]);
    let orders = u32::try_from(order_ids.len())?;
    Limits::clear(pool).await?;
    run(pool, "CREATE SCHEMA bench CREATE TABLE twins (order_id text PRIMARY KEY, twin text NOT NULL)".to_owned())
        .await?;
    sqlx::query("INSERT INTO bench.twins SELECT id, md5(id)::uuid::text FROM unnest($1::text[]) AS t (id)")
        .bind(order_ids)
        .execute(pool)
        .await?;
    run(pool, "ANALYZE bench.twins".to_owned()).await?;
    let mut copies = Vec::new();
    for table in tables {
        let columns = columns(pool, &format!("chat.{table}"), "order_id").await?;
        let file = file(&lab.postgres.data_directory(), table);
        let rows = format!("SELECT twin, {columns} FROM chat.{table} JOIN bench.twins USING (order_id)");
        run(pool, format!("COPY ({rows}) TO '{file}' (FORMAT binary)")).await?;
        copies.push(format!("COPY chat.{table} (order_id, {columns}) FROM '{file}' (FORMAT binary)"));
    }
    let work = async {
        for copy in copies {
            run(pool, copy).await?;
        }
        Ok(())
    };
    let (sample, ()) = lab.measure(orders, messages, work).await?;
    for table in tables {
        run(pool, format!("DELETE FROM chat.{table} WHERE order_id IN (SELECT twin FROM bench.twins)")).await?;
        run(pool, format!("VACUUM chat.{table}")).await?;
    }
    Limits::clear(pool).await?;
    Ok(sample.elsewhere())
}

/// Creates an empty table with the same columns, checks, indexes and storage settings.
async fn create_like(pool: &PgPool, original: &str, copy: &str) -> anyhow::Result<()> {
    let settings: String = sqlx::query_scalar(
        "SELECT coalesce(array_to_string(reloptions, ', '), 'fillfactor = 100') FROM pg_class WHERE oid = $1::regclass",
    )
    .bind(original)
    .fetch_one(pool)
    .await?;
    run(pool, format!("CREATE TABLE {copy} (LIKE {original} INCLUDING ALL) WITH ({settings})")).await
}

/// Returns the statement that an expert would write: equal rows are left alone, except for times of writing.
async fn upsert_statement(pool: &PgPool, table: &str) -> anyhow::Result<String> {
    let (key, assignments, old, new): (String, String, String, String) = sqlx::query_as(
        "SELECT
             string_agg(quote_ident(attname), ', ') FILTER (WHERE is_key),
             string_agg(format('%1$I = excluded.%1$I', attname), ', ') FILTER (WHERE NOT is_key),
             string_agg(format('t.%I', attname), ', ') FILTER (WHERE is_compared),
             string_agg(format('excluded.%I', attname), ', ') FILTER (WHERE is_compared)
         FROM pg_index
         JOIN pg_attribute ON attrelid = indrelid AND attnum > 0 AND NOT attisdropped
         CROSS JOIN LATERAL (SELECT attnum = ANY (indkey) AS is_key) AS k
         CROSS JOIN LATERAL (
             SELECT NOT is_key AND attname NOT IN ('first_synced_at', 'first_seen_at', 'observed_at', 'updated_at')
                    AS is_compared
         ) AS c
         WHERE indisprimary AND indrelid = ('chat.' || $1)::regclass",
    )
    .bind(table)
    .fetch_one(pool)
    .await?;
    Ok(format!(
        "INSERT INTO bench.upserted_{table} AS t SELECT * FROM bench.staged_{table}
         ON CONFLICT ({key}) DO UPDATE SET {assignments}
         WHERE ROW ({old}) IS DISTINCT FROM ROW ({new})"
    ))
}

/// Returns the writable columns of a table except one, as a list for a statement.
async fn columns(pool: &PgPool, table: &str, but: &str) -> anyhow::Result<String> {
    let columns = sqlx::query_scalar(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
         FROM pg_attribute
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> $2",
    )
    .bind(table)
    .bind(but)
    .fetch_one(pool)
    .await?;
    Ok(columns)
}

/// Returns a file next to the data, where the server may write.
fn file(directory: &Path, table: &str) -> String {
    directory.join(format!("bench_{table}.copy")).display().to_string().replace('\'', "''")
}

async fn run(pool: &PgPool, statement: String) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
    Ok(())
}
