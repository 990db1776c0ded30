//! Standard output, which may be a pipe that nobody reads to its end.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. A reader that has gone, as in `chatsync status | head -1`, is not an error.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
