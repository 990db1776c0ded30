//! The formats of feeds.

use super::rows::Header;

/// The chosen format of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// Detect it by the beginning
    #[default]
    Auto,
    /// One id per line, whatever it looks like
    Plain,
}

/// The format of a feed.
pub(super) enum Format {
    /// One id per line; without `is_certain` a line that looks like something else is rejected.
    Plain { is_certain: bool },
    /// CSV with this header; `None` after a later header with unknown columns.
    Csv(Option<Header>),
    /// One JSON object per line.
    Ndjson,
    /// JSON arrays of objects, or of ids.
    Array,
}
