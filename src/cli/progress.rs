//! What happens on the terminal while a run goes on: a bar there, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use crate::sync::Progress;

const REDRAW: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Standard error, shared by log lines and a progress bar.
#[derive(Debug, Clone, Default)]
pub(super) struct Screen(MultiProgress);

impl Screen {
    /// Where log lines go: above the bar, if there is one.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter(self.0.clone())
    }

    /// Shows how far it is while `work` goes on.
    pub(super) async fn watch<T, W: Future<Output = T>>(&self, work: impl FnOnce(Arc<Progress>) -> W) -> T {
        if io::stderr().is_terminal() {
            let progress = Arc::new(Progress::counted());
            self.draw(&progress, work(Arc::clone(&progress))).await
        } else {
            let progress = Arc::new(Progress::default());
            log(&progress, work(Arc::clone(&progress))).await
        }
    }

    async fn draw<T>(&self, progress: &Progress, work: impl Future<Output = T>) -> T {
        let style =
            ProgressStyle::with_template("{wide_bar:.cyan/blue} {pos}/{len} orders  {per_sec:.bold}  {eta} left")
                .expect("the template is a constant")
                .with_key("per_sec", |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                    // Nothing to do if a terminal line cannot be written.
                    let _ = write!(w, "{:.0}/s", state.per_sec());
                })
                .progress_chars("█▉▊▋▌▍▎▏ ");
        let bar = self.0.add(ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style));
        let result = during(work, REDRAW, || {
            bar.set_length(progress.expected().max(progress.settled()));
            bar.set_position(progress.settled());
        })
        .await;
        bar.finish_and_clear();
        self.0.remove(&bar);
        result
    }
}

async fn log<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let mut last = start;
    during(work, REDRAW, || {
        if last.elapsed() >= LINE_EVERY {
            last = Instant::now();
            let settled = progress.settled();
            let per_second = settled * 1000 / u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            tracing::info!(settled, per_second, "syncing");
        }
    })
    .await
}

/// Calls `tick` every now and then while `work` goes on, and once at its end.
async fn during<T>(work: impl Future<Output = T>, every: Duration, mut tick: impl FnMut()) -> T {
    tokio::pin!(work);
    let mut interval = tokio::time::interval(every);
    loop {
        tokio::select! {
            result = &mut work => {
                tick();
                return result;
            }
            _ = interval.tick() => tick(),
        }
    }
}

/// Writes log lines to standard error without tearing the bar.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(MultiProgress);

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line that cannot be written is lost: the subscriber would panic over it.
        Ok(self.0.suspend(|| io::stderr().write(bytes)).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
