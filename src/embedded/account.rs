//! The account that runs the server if chatsync is root, for instance in a container: PostgreSQL refuses to run as
//! root.
//!
//! Used by `server`. The account owns what it must write (the data, the directory of the socket). The directory around
//! them stays owned by root: otherwise the account could mislead root with links.

use std::{
    os::unix::{
        fs::{MetadataExt, lchown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::unistd::{Uid, User, geteuid};

use super::{error::Error, root::DataDir};

/// Candidates, in this order.
const NAMES: [&str; 3] = ["chatsync", "postgres", "nobody"];

/// Fails if the user who would create a database has no name: `initdb` needs it.
pub(super) fn check_name(data_dir: &DataDir) -> Result<(), Error> {
    let is_made = matches!(data_dir, DataDir::Kept(path) if path.join("data").exists());
    // As root another account creates it, which was found by name.
    match User::from_uid(geteuid()) {
        Ok(None) if !is_made && !geteuid().is_root() => Err(Error::NoPasswdEntry { uid: geteuid().as_raw() }),
        _ => Ok(()),
    }
}

/// An unprivileged account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// Returns the account for the server on `root`; `None` if chatsync is not root, so that the server can run as the
    /// same user. Prefers the owner of the data, then the owner of the directory.
    pub(super) fn for_server(root: &Path) -> Result<Option<Self>, Error> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let owner = [root.join("data"), root.to_owned()]
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|metadata| Uid::from_raw(metadata.uid()))
            .find(|uid| !uid.is_root())
            .and_then(|uid| User::from_uid(uid).ok().flatten());
        owner
            .or_else(|| NAMES.iter().find_map(|name| User::from_name(name).ok().flatten()))
            .map(|user| Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
            .map(Some)
            .ok_or_else(|| Error::NoAccount { tried: NAMES.join(", ") })
    }

    /// Makes the account the owner of `path`.
    pub(super) fn chown(&self, path: &Path) -> Result<(), Error> {
        lchown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("change the owner of", path))
    }

    /// Fails unless the account may enter `directory`, an absolute path, and all its parents. Ignores access lists.
    pub(super) fn check_reach(&self, directory: &Path) -> Result<(), Error> {
        let mut above: Vec<_> = directory.ancestors().collect();
        above.reverse();
        for directory in above {
            let metadata = directory.metadata().map_err(Error::io("look at", directory))?;
            // std drops the supplementary groups of root, so these three cases are complete.
            let may_enter = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & may_enter == 0 {
                return Err(Error::NotReachable { account: self.name.clone(), directory: directory.to_owned() });
            }
        }
        Ok(())
    }

    /// Makes `command` run as the account.
    pub(super) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Prefix of a shell command that root runs as this account.
    pub(super) fn prefix(&self) -> String {
        if cfg!(target_os = "linux") {
            format!("runuser -u {} -- ", self.name)
        } else {
            format!("sudo -u {} ", self.name)
        }
    }
}
