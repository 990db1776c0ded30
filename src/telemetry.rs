//! Logging, set up once at the start of the program: to standard error, as text or JSON.
//!
//! A log line never holds chat text, names or tokens: the types that carry them have no `Display`, and secrets are
//! `secrecy` strings. `cli::stderr` writes the lines, also if their reader is slow or gone.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LogSettings};
use crate::visible::{visible_json, visible_line};

/// Installs the global subscriber. `write` gets whole lines. A second call has no effect.
pub fn init(log: &LogSettings, write: fn(&str), has_colours: bool) {
    let lines = Lines { write, is_json: log.format == LogFormat::Json, has_colours };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter(&log.level)).with_writer(lines).with_ansi(has_colours);
    // Fails only if a subscriber is installed already, as in tests.
    let _ = match log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
}

/// Passes formatted events on as lines with all characters visible.
struct Lines {
    write: fn(&str),
    is_json: bool,
    has_colours: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Gets a whole event per call: the formatter writes it in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = if self.is_json { visible_json(line) } else { visible_line(line, self.has_colours) };
        (self.write)(&format!("{line}\n"));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the filter. A bare level applies to chatsync; its libraries log at warn, because their info lines are noise.
fn filter(level: &str) -> EnvFilter {
    let is_bare = level.chars().all(|c| c.is_ascii_alphabetic());
    // sqlx logs the text of slow statements, which holds no values.
    let filter = EnvFilter::new(if is_bare { format!("warn,chatsync={level}") } else { level.to_owned() });
    let silent = [
        // Quotes the values of unknown parameters in a database URL, which may be secret.
        "sqlx_postgres::options=error",
        // Notices of the server: a trigger may put a chat text into them.
        "sqlx::postgres::notice=off",
        // Failed log-ins, without a limit. `db::Store` reports them.
        "sqlx_core::pool=off",
        "sqlx::pool=off",
    ];
    silent.iter().fold(filter, |filter, rule| filter.add_directive(rule.parse().expect("a constant, and valid")))
}
