//! The directory that holds one server: `data/` (PostgreSQL's own), `socket/` and the lock files.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::error::Error;

/// Log of the server, relative to the root. The previous one is kept beside it.
pub(super) const LOG: &str = "data/server.log";

/// Longest socket path that every system accepts (Linux 107, macOS 103), with the name `/.s.PGSQL.5432`.
const LONGEST_SOCKET_PATH: usize = 100;

/// Where the data of the server lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// In this directory. Created if missing, and kept after the server stops.
    Kept(PathBuf),
    /// In a temporary directory, removed when the server stops. Faster, but not durable.
    ThrowAway,
}

/// An existing directory. A temporary one is removed on drop.
#[derive(Debug)]
pub(super) struct Root {
    /// Absolute, without links.
    pub(super) path: PathBuf,
    temporary: Option<TempDir>,
}

impl Root {
    pub(super) fn open(data_dir: DataDir) -> Result<Self, Error> {
        let (path, fresh, temporary) = match data_dir {
            DataDir::Kept(path) => {
                let fresh = !path.exists();
                fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
                (path, fresh, None)
            }
            DataDir::ThrowAway => {
                let directory = tempfile::Builder::new()
                    .prefix("chatsync-")
                    .tempdir()
                    .map_err(Error::io("create a directory in", std::env::temp_dir()))?;
                (directory.path().to_owned(), true, Some(directory))
            }
        };
        if fresh {
            // The account of the server may differ; the contents are private to it.
            fs::set_permissions(&path, Permissions::from_mode(0o711))
                .map_err(Error::io("change the permissions of", &path))?;
        }
        let path = path.canonicalize().map_err(Error::io("find", path))?;
        Ok(Self { path, temporary })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The major version of PostgreSQL that created the data, if it exists.
    pub(super) fn major_version(&self) -> Result<Option<u32>, Error> {
        let data = self.data();
        // The directory is complete once it exists.
        if !data.try_exists().map_err(Error::io("look at", &data))? {
            return Ok(None);
        }
        let path = data.join("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let major = text.trim().parse().map_err(std::io::Error::other);
        major.map(Some).map_err(Error::io("understand", path))
    }

    /// Whether the data may be lost.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Removes a temporary directory now, so that a failure can be reported.
    pub(super) fn remove_temporary(&mut self) -> Result<(), Error> {
        self.temporary
            .take()
            .map_or(Ok(()), |directory| directory.close().map_err(Error::io("remove", self.path.as_path())))
    }
}

/// The usual directory of the socket.
pub(super) fn socket_directory(root: &Path) -> PathBuf {
    root.join("socket")
}

/// Whether clients can connect to a socket in `directory`.
pub(super) fn is_usable_for_socket(directory: &Path) -> bool {
    let name = "/.s.PGSQL.5432";
    directory.to_str().is_some_and(|path| path.len() + name.len() <= LONGEST_SOCKET_PATH)
}
