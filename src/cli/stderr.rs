//! Standard error, written by a thread of its own: a reader that does not read never stops the work.
//!
//! Log lines and notes wait in a bounded buffer. What does not fit is dropped and counted, and the count is logged as
//! soon as there is room again. [`flush`] ends a program; it waits only as long as somebody reads. Compared with
//! tracing-appender's lossy writer: that bounds lines instead of bytes, reports no losses, and leaves up to a whole
//! buffer unwritten at the end, however fast the reader is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

/// What waits to be written, at most: more than a thousand lines.
const MOST_BYTES: usize = 256 * 1024;

/// A reader that takes nothing for so long does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// How soon a pipe that another process has made non-blocking is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// The bars that lines go above.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

static STDERR: LazyLock<&Buffer> = LazyLock::new(|| {
    let buffer: &'static Buffer = Box::leak(Box::default());
    // Without a thread lines are dropped; the work goes on.
    let _ = thread::Builder::new().name("stderr".to_owned()).spawn(|| buffer.write_all());
    buffer
});

#[derive(Default)]
struct Buffer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    bytes: usize,
    /// Whether a line is on its way out.
    is_writing: bool,
    /// Counts what the reader took.
    progress: u64,
    /// Lines dropped and not reported yet.
    dropped: u64,
}

/// Whether standard error can show a bar: a terminal that can move its cursor.
pub(super) fn is_screen() -> bool {
    io::stderr().is_terminal() && !console::is_dumb()
}

/// Whether standard error shows colours.
pub(super) fn has_colours() -> bool {
    is_screen() && !is_colourless()
}

/// What clap is told: it looks at the terminal itself, but would colour a dumb one in a CI.
pub(super) fn colour_choice() -> clap::ColorChoice {
    if is_colourless() || console::is_dumb() { clap::ColorChoice::Never } else { clap::ColorChoice::Auto }
}

/// <https://no-color.org>
fn is_colourless() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Writes a line of the log; drops it if the buffer is full.
pub(super) fn log(line: &str) {
    STDERR.push(STDERR.lock(), line);
}

/// Writes a line for a person: waits for room as long as somebody reads.
pub(super) fn note(line: &str) {
    let state = STDERR.wait_while(|state| state.dropped == 0 && !state.has_room(line));
    STDERR.push(state, line);
}

/// Waits until all is written, as long as somebody reads.
pub(super) fn flush() {
    drop(STDERR.wait_while(|state| state.is_writing || !state.lines.is_empty() || state.dropped > 0));
}

impl State {
    fn has_room(&self, line: &str) -> bool {
        self.bytes + line.len() <= MOST_BYTES
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned state is still a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once a line was dropped, so are all until that is reported: the report stands where they would.
    fn push(&self, mut state: MutexGuard<'_, State>, line: &str) {
        if state.dropped > 0 || !state.has_room(line) {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        self.changed.notify_all();
    }

    /// Waits for the end of a condition, but not longer than [`PATIENCE`] while nothing is read.
    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let (mut progress, mut since) = (state.progress, Instant::now());
        while condition(&state) && since.elapsed() < PATIENCE {
            let waited = self.changed.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.progress != progress {
                (progress, since) = (state.progress, Instant::now());
            }
        }
        state
    }

    fn write_all(&self) {
        loop {
            let mut state = self.lock();
            while state.lines.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let line = state.lines.pop_front().unwrap_or_default();
            state.is_writing = true;
            drop(state);
            BARS.suspend(|| self.write(line.as_bytes()));
            let mut state = self.lock();
            state.bytes -= line.len();
            let dropped = if state.bytes <= MOST_BYTES / 2 { std::mem::take(&mut state.dropped) } else { 0 };
            drop(state);
            if dropped > 0 {
                // An error, so that no level hides it. It comes back here as a line.
                tracing::error!(dropped, "log lines were dropped: standard error was not read");
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// What cannot be written is lost: the reader has gone.
    fn write(&self, mut line: &[u8]) {
        while !line.is_empty() {
            match io::stderr().write(line) {
                Ok(0) => return,
                Ok(count) => {
                    line = &line[count..];
                    self.lock().progress += 1;
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TRY_AGAIN),
                Err(_) => return,
            }
        }
    }
}
