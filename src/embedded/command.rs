//! Runs the PostgreSQL programs with a time limit, detached from the terminal, and without the environment of chatsync.
//!
//! Used by `binaries` and `server`, on blocking threads. Output goes to an unnamed file, not to a pipe: a postmaster
//! would inherit the pipe and keep its reader waiting for as long as it runs.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{account::Account, error::Error};

/// Interval of blocking waits.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// How many lines of output or log an error repeats.
const TAIL_LINES: usize = 10;

/// Runs `work` on a blocking thread, to its end even if the caller is dropped.
pub(super) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<tokio::task::JoinError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await?
}

#[derive(Debug)]
pub(super) struct Tools {
    pub(super) bin: PathBuf,
    /// The account that runs them, if it differs from the user of chatsync.
    pub(super) account: Option<Account>,
    /// Working directory. All arguments are relative to it, because `pg_ctl` does not quote paths for the shell.
    pub(super) root: PathBuf,
}

impl Tools {
    /// Runs `program` to its end, with `input` on standard input.
    pub(super) fn run(
        &self,
        program: &'static str,
        arguments: &[&str],
        input: &str,
        limit: Duration,
    ) -> Result<(), Error> {
        let mut command = prepare(&self.bin.join(program));
        command.args(arguments).current_dir(&self.root).env("HOME", &self.root);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        run(command, program, input, limit).map(drop)
    }

    /// Makes the account the owner of a new directory.
    pub(super) fn chown(&self, directory: &Path) -> Result<(), Error> {
        self.account.as_ref().map_or(Ok(()), |account| account.chown(directory))
    }
}

/// Creates a command without the environment of chatsync: the account of the server could read secrets there, and `PG*`
/// variables would change settings.
pub(super) fn prepare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C");
    for name in ["PATH", "LD_LIBRARY_PATH"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    // A separate process group, so that Ctrl-C does not interrupt an orderly stop.
    command.process_group(0);
    command
}

/// Runs a [`prepare`]d command, named `program` in errors. Returns its standard output and standard error.
pub(super) fn run(mut command: Command, program: &'static str, input: &str, limit: Duration) -> Result<String, Error> {
    let cannot = |source| Error::Run { program, source };
    let mut output = tempfile::tempfile().map_err(cannot)?;
    let status = (|| {
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(input.as_bytes())?;
        stdin.rewind()?;
        command.stdin(stdin).stdout(output.try_clone()?).stderr(Stdio::from(output.try_clone()?));
        wait(command.spawn()?, limit)
    })()
    .map_err(cannot)?
    .ok_or(Error::TimedOut { program, limit })?;

    let text = read_from_start(&mut output).map_err(cannot)?;
    if status.success() {
        Ok(text)
    } else {
        Err(Error::Failed { program, output: tail(&text).unwrap_or_else(|| status.to_string()) })
    }
}

/// Returns the last lines of `text`, if any.
pub(super) fn tail(text: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let lines = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Returns the last lines of the file, if any.
pub(super) fn tail_of_file(path: &Path) -> Option<String> {
    tail(&String::from_utf8_lossy(&std::fs::read(path).ok()?))
}

/// Returns `None` if the child was killed for taking too long.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            // Kill the group, because initdb has children; a postmaster has left the group. It may have ended already.
            let _gone = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn read_from_start(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
