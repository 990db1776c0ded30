//! Standard output and error, which may be pipes that nobody reads to their ends.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. A reader that has gone, as in `chatsync status | head -1`, is not an error.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    unless_gone(writeln!(io::stdout().lock(), "{text}"))
}

/// Tells a person a line on standard error. The work goes on whether or not somebody can read it.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Forgives that the reader has gone.
pub(super) fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
