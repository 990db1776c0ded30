//! Output to standard output and standard error, which may be pipes that are not read.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::stderr;
use crate::visible::{visible, visible_json};

/// Prints a line, after all notes so far. A closed pipe, as in `chatsync status | head -1`, is no error.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    stderr::flush();
    unless_gone(writeln!(io::stdout().lock(), "{}", visible(&text.to_string())))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}

/// Prints a value as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(visible_json(&serde_json::to_string(value)?))?)
}

/// Writes a line for people to standard error. Never blocks the work for long if it is not read.
pub(super) fn note(text: impl Display) {
    stderr::note(&format!("{}\n", visible(&text.to_string())));
}

/// Ignores a closed pipe.
pub(super) fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
