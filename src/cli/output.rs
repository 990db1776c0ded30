//! Standard output and error, which may be pipes that nobody reads to their ends.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::stderr;

/// Prints a line, after all notes so far. A reader that has gone, as in `chatsync status | head -1`, is not an error.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    stderr::flush();
    unless_gone(writeln!(io::stdout().lock(), "{text}"))
}

/// Tells a person a line on standard error. The work goes on whether or not somebody reads it.
pub(super) fn note(text: impl Display) {
    stderr::note(format!("{text}\n").as_bytes());
}

/// Forgives that the reader has gone.
pub(super) fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
