//! Whether a server runs on a directory, and where it listens: read from the `postmaster.pid` that PostgreSQL keeps.
//!
//! Used by `server`. A file left behind by a crash is recognised because nobody answers on its socket; PostgreSQL
//! itself decides whether it may be replaced.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use url::form_urlencoded::byte_serialize;

use super::error::Error;

/// A server, or none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// None runs.
    Down,
    /// One is starting or stopping.
    Changing,
    /// One answers.
    Up(Endpoint),
}

/// Where a server listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The directory of the Unix socket, absolute.
    pub(super) directory: PathBuf,
    /// Part of the socket's name.
    port: u16,
}

impl Endpoint {
    /// For sqlx. The host before the path is a placeholder that the parameter replaces; the port and `sslmode` are
    /// given lest `PGPORT` and `PGSSLMODE` speak.
    pub(super) fn url(&self) -> String {
        let directory: String = byte_serialize(self.directory.as_os_str().as_bytes()).collect();
        format!("postgres://chatsync@localhost:{}/chatsync?host={directory}&sslmode=disable", self.port)
    }

    fn answers(&self) -> bool {
        UnixStream::connect(self.directory.join(format!(".s.PGSQL.{}", self.port))).is_ok()
    }
}

/// The contents of `postmaster.pid`, which come one by one as the server starts.
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
        self.pid > 0 && kill(Pid::from_raw(self.pid), None) != Err(Errno::ESRCH)
    }
}

/// The state of the server on the directory `data`.
pub(super) fn of(data: &Path) -> Result<State, Error> {
    let path = data.join("postmaster.pid");
    let bytes = match fs::read(&path) {
        Err(error) if is_absent(&error) => return Ok(State::Down),
        result => result.map_err(Error::io("read", path))?,
    };
    // The path of the data in it need not be UTF-8; what is used here is.
    let text = String::from_utf8_lossy(&bytes);
    Ok(match PidFile::parse(&text, data) {
        Some(PidFile { endpoint: Some(endpoint), ready: true, .. }) if endpoint.answers() => State::Up(endpoint),
        Some(file) if !file.ready && file.is_alive() => State::Changing,
        _ => State::Down,
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/x/data\n1795371748\n5432\n../socket\n\n 10167042        11\nready   \n";

    #[test]
    fn a_pid_file_tells_process_socket_and_state() {
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
