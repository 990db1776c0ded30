//! Starts and stops the server. Everything here blocks; the parent calls it on blocking threads.
//!
//! Invariants: the server is started and stopped only under the start lock. The last user stops it, no matter which
//! process started it.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    account::Account,
    binaries::Binaries,
    command::{POLL, Tools, tail_of_file},
    creation,
    error::Error,
    locks,
    look::{self, LookCommands},
    root::{LOG, Root, is_usable_for_socket, socket_directory},
    state::{self, Endpoint, ServerState},
};

/// How long `pg_ctl` waits for a start or an orderly stop.
const PATIENCE_SECS: u32 = 60;

/// How long a drop waits for an orderly stop before it forces one.
const DROP_PATIENCE_SECS: u32 = 10;

/// How long the processes of a killed server may take to end; PostgreSQL does not start before.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(20);

/// One use of a server. Dropping it ends the use, and stops the server if it was the last.
#[derive(Debug)]
pub(super) struct Server {
    tools: Tools,
    binaries: Binaries,
    /// The lock of a user, until it is released.
    users: Option<File>,
    root: Root,
}

impl Server {
    /// Starts the server or joins the running one.
    pub(super) fn start(root: Root, binaries: Binaries) -> Result<(Self, Endpoint), Error> {
        let account = Account::for_server(&root.path)?;
        if let Some(account) = &account {
            account.check_reach(&root.path)?;
            account.check_reach(&binaries.dir)?;
        }
        let mut server = Self {
            tools: Tools { bin: binaries.dir.clone(), account, root: root.path.clone() },
            binaries,
            users: None,
            root,
        };
        let endpoint = {
            // Released before `server` is dropped after a failure, which takes the lock again.
            let _changing = locks::start(&server.tools)?;
            server.users = Some(locks::join(&server.tools)?);
            creation::ensure(&server.root, &server.tools)?;
            server.launch()?
        };
        Ok((server, endpoint))
    }

    /// Starts the server again if it was killed or stopped by hand. Returns where it listens.
    pub(super) fn revive(&self) -> Result<Endpoint, Error> {
        if let ServerState::Up(endpoint) = state::of(&self.root.data())? {
            return Ok(endpoint);
        }
        let _changing = locks::start(&self.tools)?;
        tracing::warn!(directory = %self.root().display(), "the embedded PostgreSQL has stopped, starting it again");
        let deadline = Instant::now() + ORPHANS_PATIENCE;
        loop {
            match self.launch() {
                Err(Error::NotStarted { .. }) if Instant::now() < deadline => thread::sleep(POLL),
                launched => return launched,
            }
        }
    }

    /// The psql of the same version, or any other.
    pub(super) fn psql(&self) -> PathBuf {
        look::psql(&self.binaries.dir)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root.path
    }

    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub(super) fn look_commands(&self) -> LookCommands {
        let account = self.tools.account.as_ref();
        LookCommands::new(&self.binaries.dir, self.root(), account)
    }

    /// Ends this use, and waits until the server has stopped if it was the last.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.leave(PATIENCE_SECS)?;
        self.root.remove_temporary()
    }

    /// Joins the running server, or starts it.
    fn launch(&self) -> Result<Endpoint, Error> {
        let data = self.root.data();
        if let ServerState::Up(endpoint) = self.settled_state()? {
            return Ok(endpoint);
        }
        let log = self.root().join(LOG);
        match fs::rename(&log, log.with_extension("log.old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("rename", log)(error));
            }
            _ => {}
        }

        state::release_from_zombie(&data, &self.tools)?;
        let short = self.prepare_socket_directory()?;
        let patience = PATIENCE_SECS.to_string();
        let mut start = vec!["start", "-D", "data", "-l", LOG, "-w", "-s", "-t", &patience];
        // pg_ctl passes this to a shell.
        let socket = short.as_ref().map(|short| format!("-k {}", short.path().display()));
        start.extend(socket.iter().flat_map(|socket| ["-o", socket]));
        let outcome = self.tools.run("pg_ctl", &start, "", pg_ctl_limit(PATIENCE_SECS));
        let log = || tail_of_file(&log);
        match (outcome, state::of(&data)?) {
            (Ok(()), ServerState::Up(endpoint)) => {
                // The last user removes it.
                let _kept = short.map(TempDir::keep);
                Ok(endpoint)
            }
            (Err(error), _) => Err(Error::NotStarted { log: log().unwrap_or_else(|| error.to_string()), data }),
            (Ok(()), _) => {
                Err(Error::NotStarted { log: log().unwrap_or_else(|| "it does not answer".to_owned()), data })
            }
        }
    }

    /// Waits for a start or stop that a process without the lock began, such as a killed chatsync.
    fn settled_state(&self) -> Result<ServerState, Error> {
        let data = self.root.data();
        let patience = Duration::from_secs(PATIENCE_SECS.into());
        let deadline = Instant::now() + patience;
        loop {
            match state::of(&data)? {
                ServerState::Changing if Instant::now() < deadline => thread::sleep(POLL),
                ServerState::Changing => {
                    return Err(locks::busy(self.root(), patience));
                }
                state => return Ok(state),
            }
        }
    }

    /// Creates the directory of the socket. Creates a short one instead if its path is too long, or not UTF-8 as a URL
    /// needs.
    fn prepare_socket_directory(&self) -> Result<Option<TempDir>, Error> {
        let usual = socket_directory(self.root());
        if is_usable_for_socket(&usual) {
            match DirBuilder::new().mode(0o700).create(&usual) {
                Ok(()) => self.tools.chown(&usual)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", usual)(error)),
            }
            return Ok(None);
        }
        let short = tempfile::Builder::new()
            .prefix("chatsync-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in("/tmp")
            .map_err(Error::io("create a directory in", "/tmp"))?;
        self.tools.chown(short.path())?;
        Ok(Some(short))
    }

    /// Ends the use, and stops the server if there is no other user.
    fn leave(&mut self, patience_secs: u32) -> Result<(), Error> {
        let Some(users) = self.users.take() else {
            return Ok(());
        };
        let _changing = locks::start(&self.tools)?;
        if locks::is_last(&users, self.root())? {
            self.shut_down(patience_secs)?;
        }
        Ok(())
    }

    /// Stops the server in order, or by force after `patience_secs`. PostgreSQL recovers from that.
    fn shut_down(&self, patience_secs: u32) -> Result<(), Error> {
        let data = self.root.data();
        let before = state::of(&data)?;
        if before == ServerState::Down {
            return Ok(());
        }
        let outcome = self.pg_ctl_stop("fast", patience_secs).or_else(|error| {
            tracing::warn!(%error, "PostgreSQL does not stop in order, stopping it at once");
            self.pg_ctl_stop("immediate", DROP_PATIENCE_SECS)
        });
        // pg_ctl also fails if the server has just stopped.
        if state::of(&data)? != ServerState::Down {
            return outcome;
        }
        if let ServerState::Up(endpoint) = before
            && endpoint.directory != socket_directory(self.root())
        {
            // Remove a short directory, which is empty now. One chosen by another process is kept if in use.
            let _kept_if_in_use = fs::remove_dir(endpoint.directory);
        }
        Ok(())
    }

    fn pg_ctl_stop(&self, mode: &str, patience_secs: u32) -> Result<(), Error> {
        let seconds = patience_secs.to_string();
        let stop = ["stop", "-D", "data", "-m", mode, "-w", "-s", "-t", &seconds];
        self.tools.run("pg_ctl", &stop, "", pg_ctl_limit(patience_secs))
    }
}

impl Drop for Server {
    /// Blocks. Used if `finish` is not reached: after an error, a panic, or a cancelled task.
    fn drop(&mut self) {
        if let Err(error) = self.leave(DROP_PATIENCE_SECS) {
            tracing::warn!(%error, "cannot stop the embedded PostgreSQL");
        }
    }
}

/// A little more time than `pg_ctl` itself gets.
fn pg_ctl_limit(patience_secs: u32) -> Duration {
    Duration::from_secs(u64::from(patience_secs) + 15)
}
