//! A private PostgreSQL, for machines without one (`database.url = "embedded"`), for the demo and for the tests.
//!
//! Uses the PostgreSQL programs of the machine, or downloads them once. The server listens only on a Unix socket, in a
//! directory that no other account may enter. [`Embedded`] is a guard: the server runs while one exists, and the last
//! guard on a directory, in any process, stops it, even if it is only dropped. Processes are started and stopped on
//! blocking threads that cannot be cancelled: a `start` whose future is dropped completes there and is undone there.

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

use self::{command::blocking, root::Root, server::Server};

pub use self::{
    error::{DownloadError, Error},
    look::LookCommands,
    root::DataDir,
};

/// A running server that this process started or joined.
///
/// Prefer [`stop`](Self::stop): it does not block the runtime, and it reports errors. Dropping the guard stops the
/// server too, but blocks and only logs errors.
#[derive(Debug)]
pub struct Embedded {
    server: Arc<Server>,
    url: String,
}

impl Embedded {
    /// Starts the server on `data_dir`, or joins the one that runs there. The first start creates the database. Fails
    /// if no PostgreSQL can be found or downloaded, or if the server does not start.
    pub async fn start(data_dir: DataDir) -> Result<Self, Error> {
        let (root, required) = blocking(move || {
            account::check_name(&data_dir)?;
            let root = Root::open(data_dir)?;
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

    /// Returns the URL, with database and role `chatsync`. It contains no secret: the directory of the socket keeps
    /// other accounts out.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server again if it has died, for instance by `kill -9`. Returns the URL, which may have changed.
    pub async fn revive(&self) -> Result<String, Error> {
        let server = Arc::clone(&self.server);
        blocking(move || Ok(server.revive()?.url())).await
    }

    /// The psql program that belongs to the server.
    #[must_use]
    pub fn psql(&self) -> PathBuf {
        self.server.psql()
    }

    /// The directory of the data, without symbolic links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.server.root()
    }

    /// Version and origin of the server, for logs: `PostgreSQL 15.18 from /usr/lib/postgresql/15/bin`.
    #[must_use]
    pub fn description(&self) -> String {
        let binaries = self.server.binaries();
        format!("PostgreSQL {} from {}", binaries.version, binaries.dir.display())
    }

    /// Shell commands to look at the data of a [`DataDir::Kept`] after [`stop`](Self::stop).
    #[must_use]
    pub fn look_commands(&self) -> LookCommands {
        self.server.look_commands()
    }

    /// Stops the server unless another process still uses it, and waits for that. Closes connections, rolls back
    /// transactions, and removes a [`DataDir::ThrowAway`] directory.
    pub async fn stop(self) -> Result<(), Error> {
        blocking(move || match Arc::try_unwrap(self.server) {
            Ok(server) => server.finish(),
            // A cancelled `revive` is still working. It stops the server when it ends.
            Err(_) => Ok(()),
        })
        .await
    }
}

/// Whether the directory contains a database.
#[must_use]
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join("data").is_dir()
}

/// The default directory for [`DataDir::Kept`]: `/var/lib/chatsync` for root, otherwise `chatsync` in the data
/// directory of the user (`~/.local/share`). Fails if the user has no home directory.
pub fn default_data_dir() -> Result<PathBuf, Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/chatsync"));
    }
    let strategy = etcetera::choose_base_strategy().map_err(Error::NoHome)?;
    Ok(etcetera::BaseStrategy::data_dir(&strategy).join("chatsync"))
}
