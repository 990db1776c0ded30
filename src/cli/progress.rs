//! Shows the progress of a run: a bar on a terminal, otherwise a log line now and then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::oneshot;

use super::stderr::{BARS, has_colours, is_screen};
use super::times::span;
use crate::sync::Progress;
use crate::waits::Waits;

const REDRAW: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How long the end of a run waits for the bar to disappear.
const CLEARED_WITHIN: Duration = Duration::from_secs(1);

/// The rate is that of this span.
const SPAN: Duration = Duration::from_secs(10);

/// Shows progress, and what the run waits for, while `work` runs.
pub(super) async fn watch<T, W: Future<Output = T>>(waits: &Waits, work: impl FnOnce(Arc<Progress>) -> W) -> T {
    if is_screen() {
        let progress = Arc::new(Progress::counted());
        draw(Arc::clone(&progress), waits.clone(), work(progress)).await
    } else {
        let progress = Arc::new(Progress::default());
        log(&progress, work(Arc::clone(&progress))).await
    }
}

/// Draws the bar on a thread: writing to a stopped terminal blocks.
async fn draw<T>(progress: Arc<Progress>, waits: Waits, work: impl Future<Output = T>) -> T {
    // The message comes last: it is cut at the edge of the terminal.
    let bar = if has_colours() { "{bar:24.cyan/blue}" } else { "{bar:24}" };
    let style = ProgressStyle::with_template(&format!("{bar} {{pos}}/{{len}} orders  {{wide_msg}}"))
        .expect("the template is a constant")
        .progress_chars("█▉▊▋▌▍▎▏ ");
    let (goes_on, ended) = std_mpsc::channel::<()>();
    let (clears, cleared) = oneshot::channel::<()>();
    thread::spawn(move || {
        let _clears = clears;
        let bar = BARS.add(ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style));
        let mut rate = Rate::new(Instant::now());
        while ended.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
            let (settled, expected) = (progress.settled(), progress.expected());
            rate.note(Instant::now(), settled);
            bar.set_length(expected.max(settled));
            bar.set_position(settled);
            bar.set_message(match waits.longest() {
                Some(wait) => wait.to_string(),
                None => in_motion(rate.per_second(), expected.saturating_sub(settled)),
            });
        }
        bar.finish_and_clear();
        BARS.remove(&bar);
    });
    let result = work.await;
    drop(goes_on);
    let _ = tokio::time::timeout(CLEARED_WITHIN, cleared).await;
    result
}

/// The rate, and the time left at that rate.
fn in_motion(per_second: u64, left: u64) -> String {
    match i64::try_from(left.checked_div(per_second).unwrap_or(0)) {
        Ok(seconds) if seconds > 0 => format!("{per_second}/s  {} left", span(TimeDelta::seconds(seconds))),
        _ => format!("{per_second}/s"),
    }
}

async fn log<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let mut last = Instant::now();
    let mut rate = Rate::new(last);
    during(work, REDRAW, || {
        let settled = progress.settled();
        rate.note(Instant::now(), settled);
        if last.elapsed() >= LINE_EVERY {
            last = Instant::now();
            tracing::info!(settled, per_second = rate.per_second(), "syncing");
        }
    })
    .await
}

/// Orders per second over the last [`SPAN`], not since the start.
struct Rate {
    /// Number of settled orders over time, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn new(start: Instant) -> Self {
        Self { samples: VecDeque::from([(start, 0)]) }
    }

    fn note(&mut self, now: Instant, settled: u64) {
        self.samples.push_back((now, settled));
        // The oldest remaining sample is just before the span, or at its start.
        while self.samples.get(1).is_some_and(|(time, _)| now.duration_since(*time) >= SPAN) {
            self.samples.pop_front();
        }
    }

    fn per_second(&self) -> u64 {
        let (Some((from, before)), Some((to, settled))) = (self.samples.front(), self.samples.back()) else { return 0 };
        let milliseconds = u64::try_from(to.duration_since(*from).as_millis()).unwrap_or(u64::MAX).max(1);
        (settled - before) * 1000 / milliseconds
    }
}

/// Calls `tick` at intervals while `work` runs, and once at its end.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_current_one_and_not_the_mean() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        // A minute at 1,000 per second, then ten seconds of nothing, then 50 per second.
        let mut settled = 0;
        let mut rates = Vec::new();
        for tenth in 1..=900_u32 {
            settled += match tenth {
                ..=600 => 100,
                601..=700 => 0,
                _ => 5,
            };
            rate.note(start + Duration::from_millis(100) * tenth, settled);
            if [10, 600, 700, 900].contains(&tenth) {
                rates.push(rate.per_second());
            }
        }
        assert_eq!(rates, [1_000, 1_000, 0, 50]);
        assert!(rate.samples.len() <= 102, "{}", rate.samples.len());
    }

    #[test]
    fn the_time_left_follows_from_the_current_rate() {
        assert_eq!(in_motion(50, 6_000), "50/s  2m left");
        assert_eq!(in_motion(0, 6_000), "0/s");
        assert_eq!(in_motion(50, 0), "50/s");
    }
}
