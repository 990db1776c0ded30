//! The locks that let several processes share one directory.
//!
//! `start.lock` is held, exclusively, while the server is started or stopped. Every user of the server holds
//! `users.lock`, shared; who can take it exclusively is the last one. Used by `server`. The kernel frees the lock of a
//! process that dies, so nothing is ever left locked.

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

/// Guards starting and stopping.
pub(super) const START: &str = "start.lock";

/// Counts the users.
const USERS: &str = "users.lock";

/// Longer than anything that is done under the lock: making the database, starting, stopping.
const PATIENCE: Duration = Duration::from_secs(400);

/// Waits for the right to start or stop the server, which lasts until the file is dropped.
pub(super) fn start(tools: &Tools) -> Result<File, Error> {
    let path = tools.root.join(START);
    let file = open(&path, tools)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(Error::Busy { root: tools.root.clone(), waited: PATIENCE });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(POLL),
        }
    }
}

/// Counts this process among the users until the file is dropped or [`is_last`]. Never waits, under the start lock.
pub(super) fn join(tools: &Tools) -> Result<File, Error> {
    let path = tools.root.join(USERS);
    let file = open(&path, tools)?;
    file.lock_shared().map_err(Error::io("lock", path))?;
    Ok(file)
}

/// Gives up the place among the users; true if it was the last. Call it under the start lock, so that nobody joins
/// in between.
pub(super) fn is_last(users: &File, root: &Path) -> Result<bool, Error> {
    let failed = || Error::io("lock", root.join(USERS));
    users.unlock().map_err(failed())?;
    match users.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(failed()(source)),
    }
}

/// Opens the file for locking, for which reading is enough. Nobody else may read it: whoever can open it could hold the
/// lock for ever. It is the account's, which may run chatsync itself another time.
fn open(path: &Path, tools: &Tools) -> Result<File, Error> {
    let opened = match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            tools.own(path)?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => File::open(path),
        Err(error) => Err(error),
    };
    opened.map_err(Error::io("open", path))
}
