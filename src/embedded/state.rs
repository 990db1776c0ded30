//! Whether a server runs on a directory, and where it listens, by the `postmaster.pid` of PostgreSQL.
//!
//! Used by `server`. If nothing answers on its socket, the file was left by a crash. PostgreSQL decides whether it may
//! be replaced, but it takes a zombie for a running server: see [`release_from_zombie`].

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use tempfile::NamedTempFile;
use url::form_urlencoded::byte_serialize;

use super::{command::Tools, error::Error};

/// A process id that no process has.
const NO_PROCESS: i32 = i32::MAX;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerState {
    Down,
    /// Starting or stopping.
    Changing,
    Up(Endpoint),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Directory of the Unix socket, absolute.
    pub(super) directory: PathBuf,
    /// The name of the socket contains it.
    port: u16,
}

impl Endpoint {
    /// Returns the URL for sqlx. The parameter `host` replaces the placeholder host. Port and `sslmode` are explicit,
    /// so that `PGPORT` and `PGSSLMODE` cannot override them.
    pub(super) fn url(&self) -> String {
        let directory: String = byte_serialize(self.directory.as_os_str().as_bytes()).collect();
        format!("postgres://chatsync@localhost:{}/chatsync?host={directory}&sslmode=disable", self.port)
    }

    fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port))
    }

    fn answers(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }
}

/// The contents of `postmaster.pid`, which the server writes line by line as it starts.
#[derive(Debug, PartialEq, Eq)]
struct PidFile {
    pid: i32,
    endpoint: Option<Endpoint>,
    ready: bool,
}

impl PidFile {
    /// Lines 1, 4, 5 and 8 are the process, the port, the directory of the socket and the state.
    fn parse(text: &str, data: &Path) -> Option<Self> {
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        let endpoint = || {
            let port = lines.get(3)?.parse().ok()?;
            let directory = lines.get(4).filter(|line| !line.is_empty())?;
            let directory = match directory.strip_prefix("../") {
                Some(sibling) => data.with_file_name(sibling),
                None => data.join(directory),
            };
            Some(Endpoint { directory, port })
        };
        Some(Self { pid: lines.first()?.parse().ok()?, endpoint: endpoint(), ready: lines.get(7) == Some(&"ready") })
    }

    fn is_alive(&self) -> bool {
        self.pid > 0 && kill(Pid::from_raw(self.pid), None) != Err(Errno::ESRCH) && !is_zombie(self.pid)
    }
}

/// Whether a process has ended but was not reaped by its parent. Always false except on Linux.
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may contain any characters.
    String::from_utf8_lossy(&stat).rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Returns the state of the server on the directory `data`.
pub(super) fn of(data: &Path) -> Result<ServerState, Error> {
    let path = data.join("postmaster.pid");
    let bytes = match fs::read(&path) {
        Err(error) if is_absent(&error) => return Ok(ServerState::Down),
        result => result.map_err(Error::io("read", path))?,
    };
    // The path of the data need not be UTF-8; the rest is.
    let text = String::from_utf8_lossy(&bytes);
    Ok(match PidFile::parse(&text, data) {
        Some(PidFile { endpoint: Some(endpoint), ready: true, .. }) if endpoint.answers() => ServerState::Up(endpoint),
        Some(file) if !file.ready && file.is_alive() => ServerState::Changing,
        _ => ServerState::Down,
    })
}

/// Removes the process id of a zombie from the lock files of the server on `data`, so that a new server can start.
///
/// PostgreSQL does not start while that process exists, and a zombie exists until its parent reaps it, which a process
/// 1 that is no init never does. The rest of the files stays: from it PostgreSQL learns whether other processes of the
/// killed server still use its memory. Call it under the start lock.
pub(super) fn release_from_zombie(data: &Path, tools: &Tools) -> Result<(), Error> {
    let path = data.join("postmaster.pid");
    let Ok(bytes) = fs::read(&path) else { return Ok(()) };
    let Some(file) = PidFile::parse(&String::from_utf8_lossy(&bytes), data).filter(|file| is_zombie(file.pid)) else {
        return Ok(());
    };
    // The lock file of the socket first: it is found through the other one.
    let of_socket = file.endpoint.map(|endpoint| endpoint.socket().with_added_extension("lock"));
    for path in of_socket.into_iter().chain([path]) {
        if let Ok(bytes) = fs::read(&path) {
            replace_pid(&path, file.pid, &bytes, tools)?;
        }
    }
    Ok(())
}

/// Rewrites a lock file of process `pid`. Not in place: the directory belongs to the account, which could have put a
/// link there.
fn replace_pid(path: &Path, pid: i32, bytes: &[u8], tools: &Tools) -> Result<(), Error> {
    let Some(rest) = bytes.strip_prefix(format!("{pid}\n").as_bytes()) else { return Ok(()) };
    let failed = || Error::io("replace", path);
    let mut file = NamedTempFile::new_in(path.parent().unwrap_or(path)).map_err(failed())?;
    file.write_all(&[format!("{NO_PROCESS}\n").as_bytes(), rest].concat()).map_err(failed())?;
    tools.chown(file.path())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/x/data\n1795371748\n5432\n../socket\n\n 10167042        11\nready   \n";

    #[test]
    fn a_pid_file_contains_process_socket_and_state() {
        let file = PidFile::parse(READY, Path::new("/x/data")).unwrap();
        let endpoint = file.endpoint.unwrap();
        assert_eq!((file.pid, file.ready), (4711, true));
        assert_eq!(endpoint.url(), "postgres://chatsync@localhost:5432/chatsync?host=%2Fx%2Fsocket&sslmode=disable");
    }

    #[test]
    fn an_absolute_socket_directory_stays_as_it_is() {
        let text = READY.replace("../socket", "/tmp/s");
        let file = PidFile::parse(&text, Path::new("/x/data")).unwrap();
        assert_eq!(file.endpoint.unwrap().directory, Path::new("/tmp/s"));
    }

    #[test]
    fn a_pid_file_that_is_still_being_written_has_no_socket() {
        let file = PidFile::parse("4711\n/x/data\n1795371748\n", Path::new("/x/data")).unwrap();
        assert_eq!((file.endpoint, file.ready), (None, false));
        assert_eq!(PidFile::parse("", Path::new("/x/data")), None);
    }
}
