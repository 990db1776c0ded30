//! The environment of all measurements: PostgreSQL, the mock server, and their counters before and after.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sqlx::PgPool;

use crate::postgres::Postgres;
use crate::processor;
use crate::sample::{Sample, Statement};
use crate::server::Server;

/// How long a worker's connections may outlive it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both servers, and a directory for the output of processes.
pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) postgres: Postgres,
    pub(crate) scratch: tempfile::TempDir,
}

/// Counters of the tables.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
struct Tables {
    inserted: i64,
    rewritten: i64,
    dead: i64,
    autovacuums: i64,
}

/// Counters of the worker's statements.
#[derive(Debug, Default, sqlx::FromRow)]
struct Statements {
    calls: i64,
    queue_wal: i64,
    other_wal: i64,
}

impl Lab {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let postgres = Postgres::start().await?;
        Ok(Self { server: Server::start().await?, postgres, scratch: tempfile::tempdir()? })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.postgres.pool
    }

    /// Measures `work` on this many orders and messages, immediately after a checkpoint. Earlier changes to the tables
    /// do not count if they are vacuumed.
    pub(crate) async fn measure<T>(
        &self,
        orders: u32,
        messages: u64,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(Sample, T)> {
        let pool = self.pool();
        sqlx::query("CHECKPOINT").execute(pool).await?;
        let tables = self.tables().await?;
        if self.postgres.has_statements {
            sqlx::query("SELECT pg_stat_statements_reset()").execute(pool).await?;
        }
        let wal = wal_position(pool).await?;
        let server = self.server.usage().await?.processor;
        let postgres = processor::of_postgres(self.postgres.postmaster);
        let children = processor::ended_children()?;

        let start = Instant::now();
        let outcome = work.await?;
        let wall_seconds = start.elapsed().as_secs_f64();

        self.wait_for_connections_to_end().await?;
        let children = processor::ended_children()?.saturating_sub(children);
        let postgres_after = processor::of_postgres(self.postgres.postmaster);
        let server = self.server.usage().await?.processor.saturating_sub(server);
        let wal = wal_position(pool).await? - wal;
        let tables_after = self.tables().await?;
        let statements = self.statements().await?;

        let sample = Sample {
            orders,
            messages,
            wall_seconds,
            worker_cpu_seconds: some_time(children),
            server_cpu_seconds: some_time(server),
            postgres_cpu_seconds: postgres_after
                .zip(postgres)
                .map(|(after, before)| after.saturating_sub(before).as_secs_f64()),
            statements: statements.as_ref().map(|statements| number(statements.calls)),
            wal_bytes: Some(number(wal)),
            queue_wal_bytes: statements.as_ref().map(|statements| number(statements.queue_wal)),
            other_wal_bytes: statements.as_ref().map(|statements| number(statements.other_wal)),
            dead_rows: Some(number(tables_after.dead - tables.dead)),
            chat_rows_inserted: Some(number(tables_after.inserted - tables.inserted)),
            chat_rows_rewritten: Some(number(tables_after.rewritten - tables.rewritten)),
            autovacuums: Some(number(tables_after.autovacuums - tables.autovacuums)),
            costliest: self.costliest().await?,
            ..Sample::default()
        };
        Ok((sample, outcome))
    }

    /// Waits until a worker's connections have ended: only then its statistics are complete.
    async fn wait_for_connections_to_end(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
            .fetch_one(self.pool())
            .await?;
            if left == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{left} connections outlive their worker");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn tables(&self) -> anyhow::Result<Tables> {
        // Flush this connection's own statistics: otherwise they would appear later.
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(self.pool()).await?;
        sqlx::query_as(
            "SELECT
                 coalesce(sum(n_tup_ins) FILTER (WHERE schemaname = 'chat'), 0)::bigint AS inserted,
                 coalesce(sum(n_tup_upd + n_tup_del) FILTER (WHERE schemaname = 'chat'), 0)::bigint AS rewritten,
                 coalesce(sum(n_dead_tup), 0)::bigint AS dead,
                 coalesce(sum(autovacuum_count + autoanalyze_count), 0)::bigint AS autovacuums
             FROM pg_stat_user_tables
             WHERE schemaname IN ('chat', 'sync')",
        )
        .fetch_one(self.pool())
        .await
        .context("cannot read the statistics of the tables")
    }

    async fn statements(&self) -> anyhow::Result<Option<Statements>> {
        if !self.postgres.has_statements {
            return Ok(None);
        }
        let statements = sqlx::query_as(
            "SELECT
                 coalesce(sum(calls), 0)::bigint AS calls,
                 coalesce(sum(wal_bytes) FILTER (WHERE query LIKE '%order_queue%'), 0)::bigint AS queue_wal,
                 coalesce(sum(wal_bytes) FILTER (WHERE query NOT LIKE '%order_queue%'), 0)::bigint AS other_wal
             FROM pg_stat_statements
             WHERE userid = 'chatsync'::regrole",
        );
        Ok(Some(statements.fetch_one(self.pool()).await?))
    }

    async fn costliest(&self) -> anyhow::Result<Vec<Statement>> {
        if !self.postgres.has_statements {
            return Ok(Vec::new());
        }
        let statements = sqlx::query_as(
            r"SELECT left(regexp_replace(regexp_replace(query, '--[^\n]*', '', 'g'), '\s+', ' ', 'g'), 300) AS text,
                     calls, total_exec_time AS total_ms, rows, wal_bytes::bigint AS wal_bytes
              FROM pg_stat_statements
              WHERE userid = 'chatsync'::regrole
              ORDER BY total_exec_time DESC
              LIMIT 12",
        );
        Ok(statements.fetch_all(self.pool()).await?)
    }
}

async fn wal_position(pool: &PgPool) -> anyhow::Result<i64> {
    let position = sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint");
    Ok(position.fetch_one(pool).await?)
}

/// Zero means that no process was at work.
fn some_time(time: Duration) -> Option<f64> {
    (time > Duration::from_micros(500)).then_some(time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
fn number(count: i64) -> f64 {
    count as f64
}
