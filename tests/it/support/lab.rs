//! The database of one test, and ways to run chatsync on it: in process, or the real binary.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use chatsync::config::{self, Needs, Patience, Settings, Sources};
use chatsync::db::queue::Feeding;
use chatsync::db::runs::Trigger;
use chatsync::db::{self, Store};
use chatsync::domain::{NewOrder, OrderId};
use chatsync::sync::{Progress, Report, Request, Worker};
use chatsync::waits::Waits;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

pub(crate) struct Lab {
    pub(crate) pool: PgPool,
    /// Runs operations of chatsync on the pool.
    pub(crate) store: Store,
    database: String,
    url: String,
    /// Home and working directory of the binary.
    pub(crate) home: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Believe every result: for tests with a single order, which has no evidence from others.
pub(crate) const GUARD_OFF: (&str, &str) = ("guard.max_suspicious_share", "1");

/// Runs operations of chatsync, with little patience.
pub(crate) fn store(pool: PgPool) -> Store {
    let patience = Patience { timeout: Duration::from_secs(30), give_up_after: Duration::from_secs(30) };
    Store::new(pool, patience, CancellationToken::new(), Waits::default())
}

impl Lab {
    /// Creates and migrates a database.
    pub(crate) async fn open(admin_url: &str) -> anyhow::Result<Self> {
        let database = format!("chatsync_test_{}", uuid::Uuid::new_v4().simple());
        let admin = PgConnectOptions::from_str(admin_url)?;
        let mut connection = admin.connect().await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut connection).await?;
        let mut url = url::Url::parse(admin_url)?;
        url.set_path(&format!("/{database}"));
        let options = PgConnectOptions::from_str(url.as_str())?;
        let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await?;
        db::migrate(&mut *pool.acquire().await?).await?;
        let store = store(pool.clone());
        Ok(Self { pool, store, database, url: url.into(), home: tempfile::tempdir()? })
    }

    /// Drops the database, connected or not.
    pub(crate) async fn close(&self, admin_url: &str) -> anyhow::Result<()> {
        self.pool.close().await;
        let mut connection = PgConnectOptions::from_str(admin_url)?.connect().await?;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await?;
        Ok(())
    }

    /// URL of the database. Contains a password: not for logs.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Adds orders without a user.
    pub(crate) async fn enqueue(&self, order_ids: &[&str]) -> anyhow::Result<()> {
        let orders: Vec<NewOrder> =
            order_ids.iter().map(|id| OrderId::new(*id).map(NewOrder::new)).collect::<Result<_, _>>()?;
        db::queue::enqueue(&self.store, &orders, &Feeding::of("test")).await?;
        Ok(())
    }

    /// Makes every live order due, as if time had passed.
    pub(crate) async fn make_all_due(&self) -> anyhow::Result<()> {
        sqlx::query("UPDATE sync.order_queue SET due_at = now() WHERE state IN ('pending', 'open')")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Moves every time in the database back, as if so much time had passed. Times from the API stay, because a
    /// simulated API with an advanced clock sends them again.
    pub(crate) async fn let_time_pass(&self, time: Duration) -> anyhow::Result<()> {
        let shifts: Vec<String> = sqlx::query_scalar(
            "SELECT format('UPDATE %I.%I SET ', table_schema, table_name)
                    || string_agg(format('%1$I = %1$I - make_interval(secs => $1)', column_name), ', ')
             FROM information_schema.columns
             WHERE table_schema IN ('sync', 'chat')
               AND data_type = 'timestamp with time zone'
               AND is_updatable = 'YES'
               AND is_generated = 'NEVER'
               AND column_name NOT IN ('created_at', 'read_at', 'first_message_at', 'last_message_at')
               AND table_name <> 'evidence'
             GROUP BY table_schema, table_name",
        )
        .fetch_all(&self.pool)
        .await?;
        for shift in shifts {
            sqlx::query(AssertSqlSafe(shift)).bind(time.as_secs_f64()).execute(&self.pool).await?;
        }
        // Its hours are keys: move them through a range without rows.
        for seconds in [3e9, time.as_secs_f64() - 3e9] {
            let shift = "UPDATE sync.evidence SET hour = hour - make_interval(secs => $1),
                                last_good_at = last_good_at - make_interval(secs => $1)";
            sqlx::query(shift).bind(seconds).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Settings for an API at `base_url` with the static token `simulated-token`, fast, plus `more` keys.
    pub(crate) fn settings(&self, base_url: &str, more: &[(&str, &str)]) -> Settings {
        let environment = self.environment(base_url, more).into_iter().collect();
        config::load(&Sources { environment, ..Sources::built_in() }, Needs::Credentials).expect("good settings")
    }

    /// The same, as variables.
    fn environment(&self, base_url: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let defaults = [
            ("api.base_url", base_url),
            ("auth.mode", "static_token"),
            ("auth.token", "simulated-token"),
            ("database.url", self.url()),
            ("pace.initial_requests_per_second", "100000"),
        ];
        let variable = |key: &str| format!("CHATSYNC__{}", key.replace('.', "__").to_uppercase());
        defaults.iter().chain(more).map(|(key, value)| (variable(key), (*value).to_owned())).collect()
    }

    /// A worker in this process.
    pub(crate) fn worker(&self, settings: &Settings) -> Worker {
        Worker::new(self.pool.clone(), "test".to_owned(), settings).expect("a client")
    }

    /// One run in this process, to its end.
    pub(crate) async fn sync(&self, base_url: &str, more: &[(&str, &str)]) -> anyhow::Result<Report> {
        self.run(&self.worker(&self.settings(base_url, more))).await
    }

    /// One run of a worker, to its end.
    pub(crate) async fn run(&self, worker: &Worker) -> anyhow::Result<Report> {
        let request = Request::all(Trigger::Manual);
        Ok(worker.run(&request, &CancellationToken::new(), &Progress::default()).await?)
    }

    /// The real binary with only the necessary environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatsync"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// The real binary, configured for this database and an API at `base_url`, plus `more` keys.
    pub(crate) fn configured(&self, arguments: &[&str], base_url: &str, more: &[(&str, &str)]) -> Command {
        let mut command = self.command(arguments);
        command.envs(self.environment(base_url, more));
        command
    }

    /// The real binary with only the database configured.
    pub(crate) fn with_database(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env("DATABASE_URL", self.url());
        command
    }

    /// All rows of a schema as text, one line each, in a fixed order.
    pub(crate) async fn dump(&self, schema: &str) -> anyhow::Result<Vec<String>> {
        self.dump_without(schema, &[]).await
    }

    /// As above, without some columns.
    pub(crate) async fn dump_without(&self, schema: &str, columns: &[&str]) -> anyhow::Result<Vec<String>> {
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1")
                .bind(schema)
                .fetch_all(&self.pool)
                .await?;
        let mut rows = Vec::new();
        for table in tables {
            let select =
                format!("SELECT '{table} ' || (to_jsonb(t) - $1::text[])::text FROM {schema}.{table} AS t ORDER BY 1");
            let lines: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(select)).bind(columns).fetch_all(&self.pool).await?;
            rows.extend(lines);
        }
        Ok(rows)
    }

    /// Returns the first column of the only row, as text.
    pub(crate) async fn text(&self, query: &'static str) -> anyhow::Result<Option<String>> {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.with_context(|| query.to_owned())
    }

    /// Returns a count.
    pub(crate) async fn count(&self, query: &'static str) -> anyhow::Result<i64> {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.with_context(|| query.to_owned())
    }

    pub(crate) async fn leases_left(&self) -> anyhow::Result<i64> {
        self.count("SELECT count(*) FROM sync.order_queue WHERE lease_id IS NOT NULL").await
    }
}

impl Finished {
    /// Runs a command to its end.
    pub(crate) async fn of(mut command: Command) -> anyhow::Result<Self> {
        Self::of_child(command.spawn()?).await
    }

    /// Runs a command with a text on its standard input.
    pub(crate) async fn of_input(mut command: Command, input: &[u8]) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let input = input.to_vec();
        // It may exit without reading all input.
        let writing = tokio::spawn(async move { stdin.write_all(&input).await });
        let finished = Self::of_child(child).await;
        let _ = writing.await?;
        finished
    }

    /// Waits for a running command.
    pub(crate) async fn of_child(child: Child) -> anyhow::Result<Self> {
        let output = child.wait_with_output().await?;
        Ok(Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Expects an exit code; prints the output otherwise.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }
}
