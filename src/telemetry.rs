//! Logging: set up once at the start of the program, to standard error, as text or JSON.
//!
//! What is logged never holds chat text, names or tokens; the types that carry them have no `Display` and secrets
//! are `secrecy` strings. Where lines go, and what happens if nobody reads them, is the business of `cli::stderr`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Installs the global subscriber, with or without colours. A second call changes nothing.
pub fn init<W>(log: &Log, writer: W, has_colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter(&log.level)).with_writer(writer).with_ansi(has_colours);
    // Fails only if a subscriber is there already: tests may have one.
    let _ = match log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
}

/// A bare level means chatsync at that level and its libraries at warn: their info is noise.
fn filter(level: &str) -> EnvFilter {
    let is_bare = level.chars().all(|c| c.is_ascii_alphabetic());
    // sqlx logs the text of slow statements, which is ours, never its values.
    let filter = EnvFilter::new(if is_bare { format!("warn,chatsync={level}") } else { level.to_owned() });
    // It quotes the values of parameters in a database URL that it does not know.
    filter.add_directive("sqlx_postgres::options=error".parse().expect("a constant, and valid"))
}
