//! The PostgreSQL of the benchmark: a fresh one with its default settings, durable, and with statistics of statements
//! where the extension is installed. It listens on TCP, as most servers do, and on a Unix socket.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::Context as _;
use chatsync::db;
use chatsync::db::embedded::{DataDir, Embedded};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

/// How a worker reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Socket,
}

/// A running server with chatsync's tables. Dropped, it is stopped and its directory removed.
pub(crate) struct Postgres {
    /// One connection, under the role `bench`: told from the workers, which are `chatsync`.
    pub(crate) pool: PgPool,
    pub(crate) postmaster: u32,
    /// Whether `pg_stat_statements` is there.
    pub(crate) has_statements: bool,
    /// Version and origin.
    pub(crate) description: String,
    tcp_url: String,
    // In this order: the server stops before its directory goes.
    embedded: Embedded,
    _directory: tempfile::TempDir,
}

impl Postgres {
    /// Starts it in a temporary directory.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("chatsync-bench-")
            // The server's account must get through.
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .context("cannot make a directory for PostgreSQL")?;
        let place = || DataDir::Kept(directory.path().join("postgres"));
        let embedded = Embedded::start(place()).await?;
        let port = free_port()?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        let has_statements = configure(embedded.url(), port, &password).await?;
        let_in(&data_directory(&embedded))?;
        embedded.stop().await?;
        let embedded = Embedded::start(place()).await?;
        let tcp_url = format!("postgres://chatsync:{password}@127.0.0.1:{port}/chatsync?sslmode=disable");
        let pid_file = data_directory(&embedded).join("postmaster.pid");
        let pid_file = fs::read_to_string(&pid_file).with_context(|| format!("cannot read {}", pid_file.display()))?;
        let postmaster = pid_file.lines().next().context("an empty postmaster.pid")?.trim().parse()?;

        let options = PgConnectOptions::from_str(&tcp_url)?.username("bench").application_name("bench");
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.connect_with(options).await?;
        if has_statements {
            sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&pool).await?;
        }
        db::migrate(&mut *pool.acquire().await?).await?;
        let description = embedded.description();
        Ok(Self { pool, postmaster, has_statements, description, tcp_url, embedded, _directory: directory })
    }

    /// For the worker.
    pub(crate) fn url(&self, transport: Transport) -> &str {
        match transport {
            Transport::Tcp => &self.tcp_url,
            Transport::Socket => self.embedded.url(),
        }
    }

    /// A directory in which the server may write.
    pub(crate) fn data_directory(&self) -> PathBuf {
        data_directory(&self.embedded)
    }

    /// The settings that matter here, as the server runs with them.
    pub(crate) async fn settings(&self) -> anyhow::Result<Vec<(String, String)>> {
        let settings = sqlx::query_as(
            "SELECT name, current_setting(name)
             FROM pg_settings
             WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'wal_sync_method',
                            'wal_compression', 'max_wal_size', 'checkpoint_timeout', 'shared_buffers', 'autovacuum',
                            'jit', 'shared_preload_libraries')
             ORDER BY name",
        );
        Ok(settings.fetch_all(&self.pool).await?)
    }

    /// Stops it and says what went wrong.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        Ok(self.embedded.stop().await?)
    }
}

fn data_directory(embedded: &Embedded) -> PathBuf {
    embedded.data_dir().join("data")
}

/// A port that nobody listens on, at the moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Lets roles in over TCP by their password: other accounts of the machine must stay out.
fn let_in(data_directory: &Path) -> anyhow::Result<()> {
    let path = data_directory.join("pg_hba.conf");
    let rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(&path, rules).with_context(|| format!("cannot write {}", path.display()))
}

/// Lets the server listen, and undoes what the embedded one saves on a small machine. Takes effect with the next start.
async fn configure(url: &str, port: u16, password: &str) -> anyhow::Result<bool> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    let has_statements =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')");
    let has_statements: bool = has_statements.fetch_one(&pool).await?;
    let statements = [
        format!("CREATE ROLE bench SUPERUSER LOGIN PASSWORD '{password}'"),
        format!("ALTER ROLE chatsync PASSWORD '{password}'"),
        "ALTER SYSTEM SET listen_addresses = '127.0.0.1'".to_owned(),
        format!("ALTER SYSTEM SET port = {port}"),
        "ALTER SYSTEM RESET shared_buffers".to_owned(),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await?;
    }
    if has_statements {
        sqlx::query("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'").execute(&pool).await?;
    }
    pool.close().await;
    Ok(has_statements)
}
