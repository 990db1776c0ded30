//! Standard error, written by a thread, so that a pipe that is not read never blocks the work.
//!
//! Log lines and notes wait in a bounded buffer. What does not fit is dropped and counted, and the count is logged once
//! there is space again. [`flush`] ends a program; it waits only while the pipe is read. The lossy writer of
//! tracing-appender bounds lines instead of bytes, reports no losses, and leaves up to a whole buffer unwritten at the
//! end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Size of the buffer: more than a thousand lines.
const MOST_BYTES: usize = 256 * 1024;

/// A pipe counts as not read after this time without progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Retry interval for a pipe that another process has made non-blocking.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Progress bars; lines are printed above them.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let target = if is_screen() {
        let screen = Box::new(Screen(console::Term::buffered_stderr()));
        ProgressDrawTarget::term_like_with_hz(screen, REDRAWS_PER_SECOND)
    } else {
        ProgressDrawTarget::hidden()
    };
    MultiProgress::with_draw_target(target)
});

const REDRAWS_PER_SECOND: u8 = 20;

/// The terminal. Writing to one that was closed does nothing: indicatif would panic.
#[derive(Debug)]
struct Screen(console::Term);

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines).or(Ok(()))
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines).or(Ok(()))
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns).or(Ok(()))
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns).or(Ok(()))
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line).or(Ok(()))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text).or(Ok(()))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line().or(Ok(()))
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush().or(Ok(()))
    }
}

static STDERR: LazyLock<&Buffer> = LazyLock::new(|| {
    let buffer: &'static Buffer = Box::leak(Box::default());
    // Without the thread lines are dropped, but the work continues.
    let _ = thread::Builder::new().name("stderr".to_owned()).spawn(|| buffer.write_all());
    buffer
});

#[derive(Default)]
struct Buffer {
    state: Mutex<BufferState>,
    changed: Condvar,
}

#[derive(Default)]
struct BufferState {
    lines: VecDeque<String>,
    bytes: usize,
    /// Whether a line is being written.
    is_writing: bool,
    /// Counts successful writes.
    progress: u64,
    /// Dropped lines that are not reported yet.
    dropped: u64,
}

/// Whether standard error can show a bar: a terminal with cursor control.
pub(super) fn is_screen() -> bool {
    io::stderr().is_terminal() && !console::is_dumb()
}

pub(super) fn has_colours() -> bool {
    is_screen() && !is_colourless()
}

/// The colour setting for clap, which looks at the terminal itself but would colour a dumb one in CI.
pub(super) fn colour_choice() -> clap::ColorChoice {
    if is_colourless() || console::is_dumb() { clap::ColorChoice::Never } else { clap::ColorChoice::Auto }
}

/// <https://no-color.org>
fn is_colourless() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Writes a log line; drops it if the buffer is full.
pub(super) fn log(line: &str) {
    STDERR.push(STDERR.state.lock(), line);
}

/// Writes a line for people; waits for space while the pipe is read.
pub(super) fn note(line: &str) {
    let state = STDERR.wait_while(|state| state.dropped == 0 && !state.has_space(line));
    STDERR.push(state, line);
}

/// Waits until everything is written, while the pipe is read.
pub(super) fn flush() {
    drop(STDERR.wait_while(|state| state.is_writing || !state.lines.is_empty() || state.dropped > 0));
}

impl BufferState {
    fn has_space(&self, line: &str) -> bool {
        self.bytes + line.len() <= MOST_BYTES
    }
}

impl Buffer {
    /// Appends a line. After a dropped line all are dropped until the loss is reported, so the report is in the right
    /// place.
    fn push(&self, mut state: MutexGuard<'_, BufferState>, line: &str) {
        if state.dropped > 0 || !state.has_space(line) {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        self.changed.notify_all();
    }

    /// Waits until the condition is false, but not longer than [`PATIENCE`] without progress.
    fn wait_while(&self, condition: impl Fn(&BufferState) -> bool) -> MutexGuard<'_, BufferState> {
        let mut state = self.state.lock();
        let (mut progress, mut since) = (state.progress, Instant::now());
        while condition(&state) && since.elapsed() < PATIENCE {
            self.changed.wait_for(&mut state, PATIENCE);
            if state.progress != progress {
                (progress, since) = (state.progress, Instant::now());
            }
        }
        state
    }

    fn write_all(&self) {
        loop {
            let mut state = self.state.lock();
            while state.lines.is_empty() {
                self.changed.wait(&mut state);
            }
            let line = state.lines.pop_front().unwrap_or_default();
            state.is_writing = true;
            drop(state);
            BARS.suspend(|| self.write(line.as_bytes()));
            let mut state = self.state.lock();
            state.bytes -= line.len();
            let dropped = if state.bytes <= MOST_BYTES / 2 { std::mem::take(&mut state.dropped) } else { 0 };
            drop(state);
            if dropped > 0 {
                // An error, so that no log level hides it. It is appended to this buffer as a line.
                tracing::error!(dropped, "log lines were dropped: standard error was not read");
            }
            self.state.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Writes a line. What cannot be written is lost: the pipe is closed.
    fn write(&self, mut line: &[u8]) {
        while !line.is_empty() {
            match io::stderr().write(line) {
                Ok(0) => return,
                Ok(count) => {
                    line = &line[count..];
                    self.state.lock().progress += 1;
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TRY_AGAIN),
                Err(_) => return,
            }
        }
    }
}
