//! A server with a hidden limit, and workers that send requests to it without end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::connect::pace::Pace;

/// How a server counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Counts the seconds of its clock separately.
    FixedWindow,
    /// Counts the second before each request.
    SlidingWindow,
    /// A bucket that fills evenly and holds a second's worth.
    Bucket,
}

pub(super) const KINDS: [Kind; 3] = [Kind::FixedWindow, Kind::SlidingWindow, Kind::Bucket];

/// A server, and how it is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) kind: Kind,
    pub(super) limit: f64,
    /// Average in milliseconds; replies take between half and one and a half of it.
    pub(super) latency: u64,
    pub(super) in_flight: usize,
    /// Whether refusals take as long as replies; otherwise they come immediately.
    pub(super) refuses_late: bool,
    pub(super) seed: u64,
}

/// Numbers of requests by result.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) seconds: u32,
    pub(super) served: u32,
    pub(super) refused: u32,
}

/// A server, its clients, and the results of their requests in each second.
pub(super) struct World {
    case: Case,
    start: Instant,
    server: Arc<Mutex<Server>>,
    askers: JoinSet<()>,
}

struct Server {
    kind: Kind,
    limit: f64,
    latency: u64,
    /// Offset of its clock: its seconds do not begin when the clients start.
    phase: f64,
    admitted: VecDeque<f64>,
    tokens: f64,
    filled_at: f64,
    counts: BTreeMap<u64, Count>,
}

impl World {
    pub(super) fn new(case: Case) -> Self {
        let Case { kind, limit, latency, .. } = case;
        let phase = fastrand::Rng::with_seed(case.seed).f64();
        let server = Server {
            kind,
            limit,
            latency,
            phase,
            admitted: VecDeque::new(),
            tokens: limit,
            filled_at: phase,
            counts: BTreeMap::new(),
        };
        Self { case, start: Instant::now(), server: Arc::new(Mutex::new(server)), askers: JoinSet::new() }
    }

    pub(super) fn set_limit(&self, limit: f64) {
        self.server.lock().unwrap().limit = limit;
    }

    pub(super) fn set_latency(&self, milliseconds: u64) {
        self.server.lock().unwrap().latency = milliseconds;
    }

    /// Adds a worker.
    pub(super) fn ask(&mut self, pace: &Arc<Pace>) {
        let mut random = fastrand::Rng::with_seed(self.case.seed + self.askers.len() as u64);
        for _ in 0..self.case.in_flight {
            let (pace, server) = (Arc::clone(pace), Arc::clone(&self.server));
            self.askers.spawn(ask(pace, server, self.start, self.case.refuses_late, random.fork()));
        }
    }

    /// Lets time pass. Returns the results of the requests in it.
    pub(super) async fn pass(&self, seconds: u32) -> Count {
        let from = self.start.elapsed().as_secs();
        let to = from + u64::from(seconds);
        tokio::time::sleep_until(self.start + Duration::from_secs(to)).await;
        let server = self.server.lock().unwrap();
        let mut sum = Count { seconds, ..Count::default() };
        for (_, count) in server.counts.range(from..to) {
            sum.served += count.served;
            sum.refused += count.refused;
        }
        sum
    }
}

async fn ask(
    pace: Arc<Pace>,
    server: Arc<Mutex<Server>>,
    start: Instant,
    refuses_late: bool,
    mut random: fastrand::Rng,
) {
    loop {
        let turn = pace.turn().await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..=2))).await;
        let (is_served, latency) = {
            let mut server = server.lock().unwrap();
            (server.admits(start.elapsed()), server.latency)
        };
        if is_served || refuses_late {
            tokio::time::sleep(Duration::from_millis(latency / 2 + random.u64(0..=latency))).await;
        }
        if is_served {
            pace.went_well(&turn);
        } else {
            pace.was_throttled(&turn);
            tokio::time::sleep(Duration::from_millis(random.u64(125..250))).await;
        }
    }
}

impl Server {
    /// Returns whether a request that arrives `elapsed` after the start is served.
    fn admits(&mut self, elapsed: Duration) -> bool {
        let now = elapsed.as_secs_f64() + self.phase;
        let is_past = |at: f64| match self.kind {
            Kind::FixedWindow => at < now.floor(),
            Kind::SlidingWindow | Kind::Bucket => at <= now - 1.0,
        };
        while self.admitted.front().is_some_and(|at| is_past(*at)) {
            self.admitted.pop_front();
        }
        self.tokens = (self.tokens + (now - self.filled_at) * self.limit).min(self.limit);
        self.filled_at = now;
        let is_served = match self.kind {
            Kind::Bucket => self.tokens >= 1.0,
            Kind::FixedWindow | Kind::SlidingWindow => {
                f64::from(u32::try_from(self.admitted.len()).unwrap()) < self.limit.floor()
            }
        };
        if is_served {
            self.admitted.push_back(now);
            self.tokens -= 1.0;
        }
        let count = self.counts.entry(elapsed.as_secs()).or_default();
        *if is_served { &mut count.served } else { &mut count.refused } += 1;
        is_served
    }
}

impl Count {
    /// Returns the share of a limit that was used.
    pub(super) fn served_of(self, limit: f64) -> f64 {
        f64::from(self.served) / (limit * f64::from(self.seconds))
    }

    pub(super) fn refused_share(self) -> f64 {
        f64::from(self.refused) / f64::from((self.refused + self.served).max(1))
    }
}
