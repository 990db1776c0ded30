//! One run's use of the API: tries and waits of a fetch, what the run has sent so far, and what would stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::memory::Reservation;
use super::{Client, Error};
use crate::domain::{ClaimedOrder, FailureKind, Outcome};

/// Tries of a request that may pass on its own, and the first wait between them (it doubles).
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A 429 says that the pace was wrong, not the request: the pace falls with each, so these tries end well.
const THROTTLED_TRIES: u32 = 12;
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// The run stops when so many replies came and all were 403: a setting of the account, not a fact about orders.
const FIRST_REPLIES: u32 = 10;

/// Requests, retries and token requests included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub requests: u32,
    /// Those answered with 429.
    pub throttled: u32,
}

/// The end of a fetch.
#[derive(Debug)]
pub struct Fetched {
    /// What came of it.
    pub answer: Answer,
    /// When the request that was answered was sent.
    pub asked_at: Instant,
    /// What it took.
    pub tally: Tally,
    /// The memory that the answer owns: to be kept as long as the answer is.
    pub reservation: Reservation,
}

/// What came of a fetch.
#[derive(Debug)]
pub enum Answer {
    /// Something to settle the order with.
    Outcome(Outcome),
    /// Every other order would fail the same way.
    StopRun(Error),
    /// Stopped on request before there was an answer.
    GivenUp,
}

/// A run's session with the API. Once `stop` is cancelled no further request is sent.
pub struct Session {
    client: Arc<Client>,
    stop: CancellationToken,
    breaker: Breaker,
    requests: AtomicU64,
    throttled: AtomicU64,
    /// How many replies came, as long as all were 403; then [`OTHERS`].
    only_forbidden: AtomicU32,
}

const OTHERS: u32 = u32::MAX;

/// A fetch on its way.
pub(super) struct Errand<'a> {
    session: &'a Session,
    tally: Tally,
}

impl Errand<'_> {
    /// Waits for something that is not a reply; gives up once the run is to stop.
    pub(super) async fn wait<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Error> {
        self.session.stop.run_until_cancelled(waiting).await.ok_or(Error::Stopped)
    }

    pub(super) fn count_request(&mut self) {
        self.tally.requests += 1;
        self.session.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_throttled(&mut self) {
        self.tally.throttled += 1;
        self.session.throttled.fetch_add(1, Relaxed);
    }
}

impl Session {
    /// A session whose breaker gives up after `give_up_after`.
    #[must_use]
    pub fn new(client: Arc<Client>, give_up_after: Duration, stop: CancellationToken) -> Self {
        Self {
            client,
            stop,
            breaker: Breaker::new(give_up_after),
            requests: AtomicU64::default(),
            throttled: AtomicU64::default(),
            only_forbidden: AtomicU32::default(),
        }
    }

    /// Requests sent and 429s received so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.throttled.load(Relaxed))
    }

    /// Asks for one order's conversation.
    pub async fn fetch(&self, order: &ClaimedOrder) -> Fetched {
        let mut errand = Errand { session: self, tally: Tally::default() };
        let mut tries = 0;
        loop {
            tries += 1;
            let (asked_at, result) = self.attempt(order, tries, &mut errand).await;
            let (answer, reservation) = match result {
                Ok((outcome, reservation)) => (Answer::Outcome(outcome), reservation),
                Err(Error::Stopped) => (Answer::GivenUp, Reservation::default()),
                Err(error) if error.stops_the_run() => (Answer::StopRun(error), Reservation::default()),
                Err(error) if is_worth_another_try(error.kind(), tries) => {
                    tracing::debug!(order_id = %order.order_id, kind = error.kind().as_str(), tries, "trying again");
                    match errand.wait(tokio::time::sleep(wait(tries))).await {
                        Ok(()) => continue,
                        Err(_) => (Answer::GivenUp, Reservation::default()),
                    }
                }
                Err(error) => (Answer::Outcome(Outcome::Failed(error.into())), Reservation::default()),
            };
            return Fetched { answer, asked_at, tally: errand.tally, reservation };
        }
    }

    /// One try, at the breaker's leave; tells the breaker how it went.
    async fn attempt(
        &self,
        order: &ClaimedOrder,
        tries: u32,
        errand: &mut Errand<'_>,
    ) -> (Instant, Result<(Outcome, Reservation), Error>) {
        let pass = match errand.wait(self.breaker.pass()).await.flatten() {
            Ok(pass) => pass,
            Err(error) => return (Instant::now(), Err(error)),
        };
        let asked_at = Instant::now();
        let result = self.client.ask(order, errand).await;
        let result = match result {
            // No news of the API.
            Err(error @ (Error::Stopped | Error::NoUser)) => Err(error),
            Err(error) => {
                let kind = error.kind();
                // 429 is a matter of the pace, unless the slowest pace does not help.
                let is_evidence =
                    kind.policy().hints_at_outage && (kind != FailureKind::Throttled || is_last(kind, tries));
                // Of an order's tries one counts: a single bad order is no outage.
                if is_evidence && (tries == 1 || pass.is_probe() || kind == FailureKind::Throttled) {
                    pass.failed(&error);
                } else if !is_evidence {
                    pass.went_well();
                }
                if kind == FailureKind::Forbidden {
                    Err(self.count_forbidden(error))
                } else {
                    // What may pass on its own says nothing of the account.
                    if !kind.policy().is_retried_at_once {
                        self.only_forbidden.store(OTHERS, Relaxed);
                    }
                    Err(error)
                }
            }
            Ok(answer) => {
                pass.went_well();
                self.only_forbidden.store(OTHERS, Relaxed);
                Ok(answer)
            }
        };
        (asked_at, result)
    }

    /// Counts a 403; the last of too many in a row from the start becomes the reason to stop.
    fn count_forbidden(&self, error: Error) -> Error {
        let count = |replies: u32| (replies != OTHERS).then(|| replies + 1);
        match self.only_forbidden.fetch_update(Relaxed, Relaxed, count) {
            Ok(before) if before + 1 >= FIRST_REPLIES => {
                Error::AllRefused { replies: before + 1, last: error.to_string() }
            }
            _ => error,
        }
    }
}

fn is_worth_another_try(kind: FailureKind, tries: u32) -> bool {
    kind.policy().is_retried_at_once && !is_last(kind, tries)
}

fn is_last(kind: FailureKind, tries: u32) -> bool {
    tries >= if kind == FailureKind::Throttled { THROTTLED_TRIES } else { TRIES }
}

/// Doubles from try to try, spread over half of it so that the many of one moment do not come back as one.
fn wait(tries: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}
