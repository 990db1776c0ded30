//! A PostgreSQL of chatsync's own, for machines where nobody set one up (`database.url = "embedded"`), for the demo and
//! for the tests.
//!
//! The server's programs are taken from the machine or downloaded once. It listens on a Unix socket only, in a
//! directory that no other account may enter. [`Embedded`] is a guard: as long as one lives the server runs, and the
//! last guard on a directory, of whatever process, stops it, also when it is merely dropped. Whatever starts or stops
//! a process runs on a blocking thread that cannot be cancelled half-way: a `start` whose future is dropped finishes
//! there and is undone there.

mod account;
mod binaries;
mod command;
mod creation;
mod download;
mod error;
mod locks;
mod look;
mod root;
mod server;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::{root::Root, server::Server};

pub use self::{
    error::{DownloadError, Error},
    look::LookCommands,
};

/// Where the server's data lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this directory, created if missing, and kept after the server stops.
    Kept(PathBuf),
    /// In a fresh temporary directory, removed when the server stops. Trades durability for speed.
    ThrowAway,
}

/// A running server, started or joined by this process.
///
/// Prefer [`stop`](Self::stop), which waits without blocking the runtime and reports what went wrong. Dropping the
/// guard does the same as well as it can, and blocks meanwhile.
#[derive(Debug)]
pub struct Embedded {
    server: Arc<Server>,
    url: String,
}

impl Embedded {
    /// Starts the server on `place`, or joins the one that runs there. The first start on a directory makes the
    /// database. Fails if no PostgreSQL can be found or downloaded, or if the server does not start.
    pub async fn start(place: Place) -> Result<Self, Error> {
        let (root, required) = blocking(move || {
            account::check_name(&place)?;
            let root = Root::open(place)?;
            let major = root.major_version()?;
            Ok::<_, Error>((root, major))
        })
        .await?;
        let binaries = binaries::provide(required, &root.data()).await?;
        blocking(move || {
            let (server, endpoint) = Server::start(root, binaries)?;
            let url = endpoint.url();
            Ok(Self { server: Arc::new(server), url })
        })
        .await
    }

    /// The URL for sqlx, with the database and the role `chatsync`. It holds no secret: the directory of the socket
    /// keeps other accounts out.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server again if it has gone, as after a `kill -9`; returns the URL, which may be another one then.
    pub async fn revive(&self) -> Result<String, Error> {
        let server = Arc::clone(&self.server);
        blocking(move || Ok(server.revive()?.url())).await
    }

    /// The program psql that goes with the server.
    #[must_use]
    pub fn psql(&self) -> PathBuf {
        self.server.psql()
    }

    /// The directory that [`Place`] named, or the temporary one, without symbolic links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.server.root()
    }

    /// The server's version and where it was found, for logs: `PostgreSQL 15.18 from /usr/lib/postgresql/15/bin`.
    #[must_use]
    pub fn description(&self) -> String {
        let binaries = self.server.binaries();
        format!("PostgreSQL {} from {}", binaries.version, binaries.dir.display())
    }

    /// Shell commands to look at the data of a [`Place::Kept`] directory after [`stop`](Self::stop).
    #[must_use]
    pub fn look_commands(&self) -> LookCommands {
        self.server.look_commands()
    }

    /// Stops the server unless another process still uses it, waits for the end of that, and removes a
    /// [`Place::ThrowAway`] directory. Open connections are cut, open transactions rolled back.
    pub async fn stop(self) -> Result<(), Error> {
        blocking(move || match Arc::try_unwrap(self.server) {
            Ok(server) => server.finish(),
            // Somebody cancelled a `revive` that still works: its end stops the server.
            Err(_) => Ok(()),
        })
        .await
    }
}

/// Whether [`Embedded::start`] on this directory would find a database there.
#[must_use]
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join("data").is_dir()
}

/// The directory for [`Place::Kept`] where nothing else is configured: `/var/lib/chatsync` for root, otherwise
/// `chatsync` in the user's data directory (`~/.local/share`). Fails if the user has no home directory.
pub fn default_data_dir() -> Result<PathBuf, Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/chatsync"));
    }
    let strategy = etcetera::choose_base_strategy().map_err(Error::NoHome)?;
    Ok(etcetera::BaseStrategy::data_dir(&strategy).join("chatsync"))
}

/// Runs `work` on a blocking thread, to its end even if the caller no longer waits for it.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<tokio::task::JoinError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await?
}
