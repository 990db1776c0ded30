//! The PostgreSQL of the benchmark: new, with default settings, durable, and with statement statistics if the
//! extension is installed. It listens on TCP, as most servers do, and on a Unix socket.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::Context as _;
use chatsync::db;
use chatsync::embedded::{DataDir, Embedded};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

/// How a worker reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Socket,
}

/// A running server with chatsync's tables. Dropping it stops it and removes its directory.
pub(crate) struct Postgres {
    /// One connection, with the role `bench`: workers use `chatsync`.
    pub(crate) pool: PgPool,
    pub(crate) postmaster: u32,
    /// Whether `pg_stat_statements` is installed.
    pub(crate) has_statements: bool,
    /// Version and origin.
    pub(crate) description: String,
    tcp_url: String,
    // Keep this order: the server must stop before its directory is removed.
    embedded: Embedded,
    _directory: tempfile::TempDir,
}

impl Postgres {
    /// Starts a server in a temporary directory.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("chatsync-bench-")
            // The server's account must be able to enter.
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

    /// Returns the URL for the worker.
    pub(crate) fn url(&self, transport: Transport) -> &str {
        match transport {
            Transport::Tcp => &self.tcp_url,
            Transport::Socket => self.embedded.url(),
        }
    }

    /// Returns a directory where the server may write.
    pub(crate) fn data_directory(&self) -> PathBuf {
        data_directory(&self.embedded)
    }

    /// Returns the relevant settings of the running server.
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

    /// Stops the server. Fails if that does.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        Ok(self.embedded.stop().await?)
    }
}

fn data_directory(embedded: &Embedded) -> PathBuf {
    embedded.data_dir().join("data")
}

/// Returns a port that is currently free.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Allows log-ins over TCP with a password: other accounts of the machine must stay out.
fn let_in(data_directory: &Path) -> anyhow::Result<()> {
    let path = data_directory.join("pg_hba.conf");
    let rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(&path, rules).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the server listen, and resets what the embedded server saves on a small machine. Takes effect at the next
/// start.
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
