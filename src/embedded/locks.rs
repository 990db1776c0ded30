//! Locks that let several processes share one directory.
//!
//! `start.lock` is held exclusively while the server is started or stopped. Every user of the server holds `users.lock`
//! in shared mode; the process that can take it exclusively is the last user. The kernel releases the locks of a
//! process that dies. Used by `server`.

use std::{
    fs::{File, TryLockError},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    command::{POLL, Tools},
    error::Error,
};

pub(super) const START: &str = "start.lock";

const USERS: &str = "users.lock";

/// Longer than anything that is done under the lock: creating the database, starting, stopping.
const PATIENCE: Duration = Duration::from_secs(400);

/// Waits for the lock to start or stop the server. Dropping the file releases it.
pub(super) fn start(tools: &Tools) -> Result<File, Error> {
    let path = tools.root.join(START);
    let file = open(&path, tools)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(busy(&tools.root, PATIENCE));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(POLL),
        }
    }
}

/// Counts this process as a user until the file is dropped or [`is_last`] is called. Call it under the start lock; then
/// it never waits.
pub(super) fn join(tools: &Tools) -> Result<File, Error> {
    let path = tools.root.join(USERS);
    let file = open(&path, tools)?;
    file.lock_shared().map_err(Error::io("lock", path))?;
    Ok(file)
}

/// Stops counting this process as a user. Returns true if it was the last. Call it under the start lock, so that no
/// process joins meanwhile.
pub(super) fn is_last(users: &File, root: &Path) -> Result<bool, Error> {
    let failed = || Error::io("lock", root.join(USERS));
    users.unlock().map_err(failed())?;
    match users.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(failed()(source)),
    }
}

/// The error of a process that waited so long for another to start or stop the server.
pub(super) fn busy(root: &Path, waited: Duration) -> Error {
    Error::Busy { root: root.to_owned(), lock: START, waited }
}

/// Opens the file for locking, for which reading is enough. Private: any process that can open it could hold the lock
/// for ever. Owned by the account, which may run chatsync itself later.
fn open(path: &Path, tools: &Tools) -> Result<File, Error> {
    let opened = match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            tools.chown(path)?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => File::open(path),
        Err(error) => Err(error),
    };
    opened.map_err(Error::io("open", path))
}
