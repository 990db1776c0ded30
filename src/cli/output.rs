//! Standard output and error, which may be pipes that nobody reads to their ends.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::stderr;
use crate::visible::{visible, visible_json};

/// Prints a line, after all notes so far. A reader that has gone, as in `chatsync status | head -1`, is not an error.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    stderr::flush();
    unless_gone(writeln!(io::stdout().lock(), "{}", visible(&text.to_string())))
}

/// Prints a value as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(visible_json(&serde_json::to_string(value)?))?)
}

/// Tells a person a line on standard error. The work goes on whether or not somebody reads it.
pub(super) fn note(text: impl Display) {
    stderr::note(&format!("{}\n", visible(&text.to_string())));
}

/// Forgives that the reader has gone.
pub(super) fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
