//! Why a feed is refused, or cannot be read to its end.

use std::io;

/// A text that is no list of orders: what it is, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {hint}")]
pub struct NotAList {
    what: String,
    hint: String,
}

impl NotAList {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

/// Why reading stopped early.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("this is no list of orders: {0}")]
    Refused(#[from] NotAList),
    /// The file or pipe failed.
    #[error("cannot read the feed at line {line}: {}", describe(source))]
    Read {
        /// Line number, from 1.
        line: u64,
        #[source]
        source: io::Error,
    },
    /// A JSON array that is not closed, or that is followed by something else.
    #[error("line {line} {problem}")]
    Torn {
        /// Line number, from 1.
        line: u64,
        problem: &'static str,
    },
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed file is truncated".to_owned(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => "the compressed file is damaged".to_owned(),
        _ => error.to_string(),
    }
}
