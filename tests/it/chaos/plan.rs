//! What fails in a trial, and when: a pure function of the seed.
//!
//! Independent lanes (the API, each worker, the connection of each worker, the server) are drawn one after the other
//! and merged, so that every fault can overlap every other. The plan is repeatable; how it meets the work of real
//! processes is not.

use std::time::Duration;

use fastrand::Rng;

use crate::support::proxy::Ending;

pub(super) const WORKERS: usize = 2;

/// The faults of the API in a trial, which decide how strictly its end can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Faults that affect every order. They do not count against an order, so one counted failure may already make it
    /// dead.
    Outages,
    /// Also replies and tokens without sense. They count as failures, so many must be allowed.
    Garbage,
    /// Also storms of plausible lies: closed, expired, refused. Lies about a few orders, or new ones, must be believed
    /// beside good replies. So here all orders were read before, the API has none that is truly closed or expired, and
    /// the guard believes none of this.
    Lies,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The API has these faults from now on.
    Faults(Vec<String>),
    /// The limit of requests per second.
    Limit(Option<u32>),
    RevokeTokens,
    /// All messages are read now, so conversations change.
    ShowReceipts,
    Kill(usize),
    Pause(usize, Duration),
    /// Sends one signal to stop, or two.
    Interrupt(usize, u32),
    /// A fault of the connection of a worker.
    Way(usize, Way),
    /// The server ends all sessions, as an administrator may.
    EndSessions,
    /// Another session locks a table of the analysts.
    Lock(Duration),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Way {
    Cut(Ending),
    CutAfter(u64, Ending),
    /// As in a restart: connections break and are refused until the end.
    Close,
    Stall,
    Open,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) weather: Weather,
    pub(super) lasts: Duration,
    pub(super) lease: Duration,
    pub(super) api_gives_up_after: Duration,
    pub(super) database_gives_up_after: Duration,
    pub(super) database_timeout: Duration,
    pub(super) token_lifetime: Duration,
    pub(super) refresh_after: Duration,
    /// In order of time.
    pub(super) events: Vec<(Duration, Event)>,
}

const RARELY: &[f64] = &[0.02, 0.05, 0.1];
const OFTEN: &[f64] = &[0.1, 0.3, 0.6];
const MOSTLY: &[f64] = &[0.3, 0.8, 1.0];

/// Faults of the API; `{}` is their probability.
type Pool = &'static [(&'static str, &'static [f64])];

const OUTAGES: Pool = &[
    ("latency={}:200ms", MOSTLY),
    ("latency-spike={}:1s", OFTEN),
    ("latency-spike={}:3s", RARELY),
    // They may ask for a wait of a year, which delays a worker by a minute.
    ("errors={}", RARELY),
    ("burst={}", RARELY),
    ("status={}:500", MOSTLY),
    ("status={}:408", OFTEN),
    ("unavailable={}:1", OFTEN),
    ("throttle={}", OFTEN),
    ("chat.status={}:403", MOSTLY),
    ("chat.page-not-found={}", MOSTLY),
    ("redirect={}", OFTEN),
    ("cut={}", MOSTLY),
    ("cut-body={}", MOSTLY),
    ("stall={}", RARELY),
    ("stall-body={}", RARELY),
    ("wrong-type={}", MOSTLY),
    ("token.cut={}", MOSTLY),
    ("token.stall={}", OFTEN),
    ("token.status={}:503", MOSTLY),
];

const GARBAGE: Pool = &[
    ("garbled={}", OFTEN),
    ("not-utf8={}", OFTEN),
    ("other-shape={}", OFTEN),
    ("page={}", MOSTLY),
    ("huge={}:1", OFTEN),
    ("bomb={}:64", OFTEN),
    ("unauthorized={}", MOSTLY),
    ("token.status={}:400", OFTEN),
    ("token.status={}:401", OFTEN),
    ("token.status={}:403", OFTEN),
    // Code 4000, but for a token.
    ("token.status={}:404", OFTEN),
    ("token.page-not-found={}", OFTEN),
    ("token.garbled={}", OFTEN),
    ("token.huge={}:1", RARELY),
];

const LIES: Pool = &[
    ("chat.status={}:404", MOSTLY),
    ("expired={}", MOSTLY),
    ("chat.status={}:400", MOSTLY),
    ("chat.status={}:422", MOSTLY),
];

impl Plan {
    pub(super) fn of(seed: u64, lasts: Duration) -> Self {
        let mut rng = Rng::with_seed(seed);
        // In turn, so that a few consecutive seeds see all of them.
        let weather = [Weather::Outages, Weather::Garbage, Weather::Lies][usize::try_from(seed % 3).expect("below 3")];
        let mut events = vec![(lasts.mul_f64(0.3 + 0.5 * rng.f64()), Event::ShowReceipts)];
        api(&mut rng, weather, lasts, &mut events);
        server(&mut rng, lasts, &mut events);
        for worker in 0..WORKERS {
            worker_lane(&mut rng, worker, lasts, &mut events);
            way(&mut rng, worker, lasts, &mut events);
        }
        events.retain(|(at, _)| *at < lasts);
        events.sort_by_key(|(at, _)| *at);
        let seconds = |rng: &mut Rng| Duration::from_secs(rng.u64(1..=3));
        Self {
            seed,
            weather,
            lasts,
            lease: Duration::from_secs(rng.u64(2..=3)),
            api_gives_up_after: seconds(&mut rng),
            database_gives_up_after: seconds(&mut rng),
            database_timeout: seconds(&mut rng),
            // Waits can outlast a short token twice: a second 401, which counts against the order.
            token_lifetime: if rng.bool() && weather != Weather::Outages {
                Duration::from_secs(2)
            } else {
                Duration::from_hours(24)
            },
            // Read repeatedly, or only once.
            refresh_after: if rng.bool() { Duration::from_secs(3) } else { Duration::from_hours(6) },
            events,
        }
    }
}

fn api(rng: &mut Rng, weather: Weather, end: Duration, events: &mut Vec<(Duration, Event)>) {
    let mut at = Duration::ZERO;
    while at < end {
        at += between(rng, 300, 2_500);
        let faults = spell(rng, weather);
        events.push((at, Event::Faults(faults)));
        at += between(rng, 300, 3_000);
        events.push((at, Event::Faults(Vec::new())));
    }
    at = Duration::ZERO;
    while at < end {
        at += between(rng, 1_000, 8_000);
        events.push((at, Event::Limit(Some(rng.u32(30..300)))));
        at += between(rng, 1_000, 4_000);
        events.push((at, Event::Limit(None)));
        // A token refused twice in a row counts against its order.
        if weather != Weather::Outages {
            events.push((at, Event::RevokeTokens));
        }
    }
}

/// Faults of the API at the same time.
fn spell(rng: &mut Rng, weather: Weather) -> Vec<String> {
    let mut faults = Vec::new();
    let mut draw = |rng: &mut Rng, pool: Pool| {
        let (fault, chances) = pool[rng.usize(..pool.len())];
        faults.push(fault.replace("{}", &chances[rng.usize(..chances.len())].to_string()));
    };
    if weather == Weather::Lies && rng.u8(..3) > 0 {
        draw(rng, LIES);
    }
    for _ in 0..rng.u8(1..=3) {
        let is_garbage = weather != Weather::Outages && rng.bool();
        draw(rng, if is_garbage { GARBAGE } else { OUTAGES });
    }
    faults
}

fn server(rng: &mut Rng, end: Duration, events: &mut Vec<(Duration, Event)>) {
    let mut at = Duration::ZERO;
    while at < end {
        at += between(rng, 2_000, 8_000);
        let event = if rng.bool() { Event::EndSessions } else { Event::Lock(between(rng, 200, 4_000)) };
        events.push((at, event));
    }
}

fn worker_lane(rng: &mut Rng, worker: usize, end: Duration, events: &mut Vec<(Duration, Event)>) {
    let mut at = Duration::ZERO;
    while at < end {
        at += between(rng, 1_500, 6_000);
        match rng.u8(..10) {
            0..4 => events.push((at, Event::Kill(worker))),
            4..8 => {
                // Often longer than its leases.
                let time = between(rng, 200, 5_000);
                events.push((at, Event::Pause(worker, time)));
                at += time;
            }
            8 => events.push((at, Event::Interrupt(worker, 1))),
            _ => events.push((at, Event::Interrupt(worker, 2))),
        }
    }
}

fn way(rng: &mut Rng, worker: usize, end: Duration, events: &mut Vec<(Duration, Event)>) {
    let mut at = Duration::ZERO;
    while at < end {
        at += between(rng, 500, 5_000);
        let ending = if rng.bool() { Ending::Fin } else { Ending::Rst };
        let event = match rng.u8(..6) {
            0 => Way::Cut(ending),
            1..3 => Way::CutAfter(rng.u64(1..60_000), ending),
            3..5 => Way::Close,
            _ => Way::Stall,
        };
        let lasts = matches!(event, Way::Close | Way::Stall);
        events.push((at, Event::Way(worker, event)));
        if lasts {
            at += between(rng, 200, 3_500);
            events.push((at, Event::Way(worker, Way::Open)));
        }
    }
}

/// A random time between these milliseconds.
fn between(rng: &mut Rng, shortest: u64, longest: u64) -> Duration {
    Duration::from_millis(rng.u64(shortest..longest))
}
