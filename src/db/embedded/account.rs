//! The account that runs the server where chatsync itself is root, as in a container: PostgreSQL refuses to be root.
//!
//! Used by `server`. What the account must write (the data, the socket's directory) is given to it when it is made; the
//! directory around them stays root's, so that the account cannot lead root astray with links.

use std::{
    os::unix::{
        fs::{MetadataExt, lchown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::unistd::{Uid, User, geteuid};

use super::{Place, error::Error};

/// Taken in this order.
const NAMES: [&str; 3] = ["chatsync", "postgres", "nobody"];

/// Fails if the user who is to make a database has no name: PostgreSQL's `initdb` asks for it.
pub(super) fn check_name(place: &Place) -> Result<(), Error> {
    let is_made = matches!(place, Place::Kept(path) if path.join("data").exists());
    // As root another account makes it, which was found by its name.
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
    /// The account for the server on `root`; none if chatsync is not root and the server can run as the same user.
    /// Whoever owns the data already keeps it, and after that the owner of the directory.
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

    /// Gives `path` to the account.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        lchown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("change the owner of", path))
    }

    /// Fails unless the account may enter `directory`, an absolute path, and every directory above it. Access lists are
    /// not looked at.
    pub(super) fn check_reach(&self, directory: &Path) -> Result<(), Error> {
        let mut above: Vec<_> = directory.ancestors().collect();
        above.reverse();
        for directory in above {
            let metadata = directory.metadata().map_err(Error::io("look at", directory))?;
            // std drops root's supplementary groups along with the user id, so these three cases are all.
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

    /// Lets `command` run as the account.
    pub(super) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// What to put before a shell command so that root runs it as this account.
    pub(super) fn prefix(&self) -> String {
        if cfg!(target_os = "linux") {
            format!("runuser -u {} -- ", self.name)
        } else {
            format!("sudo -u {} ", self.name)
        }
    }
}
