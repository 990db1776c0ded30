//! One run's use of the API: the retries of a fetch, the number of requests, and the errors that stop the run.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::context::{FetchContext, Traffic};
use super::error::Error;
use super::memory::Reservation;
use super::messages::Client;
use crate::domain::{ClaimedOrder, Failure, FailureKind, Outcome, TokenKind, backoff};

/// Attempts at a request after failures that may be temporary, and the first wait between them, which doubles.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The pace falls with each 429, so these retries succeed in the end.
const THROTTLED_TRIES: u32 = 12;
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// The result of a fetch.
#[derive(Debug)]
pub struct Fetched {
    pub answer: Answer,
    /// When the answered request was sent.
    pub asked_at: Instant,
    /// Number of requests, including retries and token requests.
    pub requests: u32,
    /// The order's new [`ClaimedOrder::token_kind`].
    pub token_kind: Option<TokenKind>,
    /// The memory of the answer. Keep it as long as the answer.
    pub reservation: Reservation,
}

#[derive(Debug)]
pub enum Answer {
    /// The order can be settled with it.
    Outcome(Outcome),
    /// Every other order would fail the same way.
    StopRun(Error),
    /// Stopped on request before the API answered.
    GivenUp,
}

/// A run's session with the API. After `stop` is cancelled it sends no further request.
pub struct Session {
    client: Arc<Client>,
    traffic: Traffic,
    breaker: Breaker,
    /// Users whose credentials were refused. Each user counts once as a hint at an outage.
    refused_users: Mutex<LruCache<String, ()>>,
}

/// How long requests in flight are waited for once the run is to stop. Their orders are released then: containers are
/// killed 10 s after the signal.
const IN_FLIGHT_GRACE: Duration = Duration::from_secs(3);

/// Refused users that are remembered. With more of them it hardly matters if one counts twice.
const REFUSED_USERS: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

impl Session {
    /// Creates a session whose breaker gives up after `give_up_after`.
    #[must_use]
    pub fn new(client: Arc<Client>, give_up_after: Duration, stop: CancellationToken) -> Self {
        Self {
            breaker: Breaker::new(give_up_after, client.waits.clone()),
            traffic: Traffic::new(stop, client.waits.clone()),
            client,
            refused_users: Mutex::new(LruCache::new(REFUSED_USERS)),
        }
    }

    /// Returns the numbers of requests sent and 429s received so far.
    pub fn counts(&self) -> (u64, u64) {
        self.traffic.counts()
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Fetches one order's conversation. Waits out an outage without counting it against the order.
    pub async fn fetch(&self, order: &ClaimedOrder) -> Fetched {
        let mut context = FetchContext::new(&self.traffic, order.token_kind);
        let mut tries = Tries::default();
        loop {
            let (asked_at, is_probe, result) = self.attempt(order, &mut tries, &mut context).await;
            let (answer, reservation) = match result {
                Ok((outcome, reservation)) => (Answer::Outcome(outcome), reservation),
                Err(Error::Stopped) => (Answer::GivenUp, Reservation::default()),
                Err(error) if error.stops_the_run() => (Answer::StopRun(error), Reservation::default()),
                Err(error) => {
                    let kind = error.kind();
                    let in_outage = kind.policy().hints_at_outage && self.breaker.is_open();
                    let is_tried_again = kind.policy().is_retried_at_once && !tries.are_used_up(kind);
                    if in_outage && (!is_probe || is_tried_again) {
                        // The order is not to blame: it waits with the others. A probe is settled in the end:
                        // otherwise one bad order after another could keep the breaker open for ever.
                        continue;
                    }
                    if is_tried_again {
                        let (kind, tries) = (kind.as_str(), tries.all());
                        tracing::debug!(order_id = %order.order_id, kind, tries, "trying again");
                        match context.wait(tokio::time::sleep(wait(tries))).await {
                            Ok(()) => continue,
                            Err(_) => (Answer::GivenUp, Reservation::default()),
                        }
                    } else {
                        let failure = Failure { in_outage, ..error.into() };
                        (Answer::Outcome(Outcome::Failed(failure)), Reservation::default())
                    }
                }
            };
            let (requests, token_kind) = (context.requests(), context.token_kind);
            return Fetched { answer, asked_at, requests, token_kind, reservation };
        }
    }

    /// Makes one attempt once the breaker allows it, and reports the result to the breaker. Also returns whether it
    /// was a probe.
    async fn attempt(
        &self,
        order: &ClaimedOrder,
        tries: &mut Tries,
        context: &mut FetchContext<'_>,
    ) -> (Instant, bool, Result<(Outcome, Reservation), Error>) {
        let pass = match context.wait(self.breaker.pass()).await.flatten() {
            Ok(pass) => pass,
            Err(error) => return (Instant::now(), false, Err(error)),
        };
        let is_probe = pass.is_probe;
        if pass.was_waited_for && !is_probe {
            *tries = Tries::default();
        }
        let asked_at = Instant::now();
        let asked = tokio::select! {
            biased;
            asked = self.client.ask(order, context) => asked,
            () = self.stopped_for_long() => Err(Error::Stopped),
        };
        let result = match asked {
            Ok(answer) => {
                pass.went_well();
                Ok(answer)
            }
            // These say nothing about the API.
            Err(error @ (Error::Stopped | Error::NoUser)) => Err(error),
            Err(error) => {
                tries.count(error.kind());
                if !error.kind().policy().hints_at_outage {
                    pass.went_well();
                } else if is_probe || self.is_new_evidence(&error, order, *tries) {
                    pass.failed(&error);
                }
                Err(error)
            }
        };
        (asked_at, is_probe, result)
    }

    /// Waits until the run was to stop [`IN_FLIGHT_GRACE`] ago.
    async fn stopped_for_long(&self) {
        self.traffic.stopped().await;
        tokio::time::sleep(IN_FLIGHT_GRACE).await;
    }

    /// Returns whether a failure is new evidence of an outage. A single bad order or a single bad user is none.
    fn is_new_evidence(&self, error: &Error, order: &ClaimedOrder, tries: Tries) -> bool {
        let kind = error.kind();
        match kind {
            // The pace handles it, unless the slowest pace does not help.
            FailureKind::Throttled => tries.are_used_up(kind),
            FailureKind::Unauthorized | FailureKind::TokenRefused => {
                let user = order.connect_user_id.clone().unwrap_or_default();
                let mut users = self.refused_users.lock();
                users.put(user, ()).is_none()
            }
            _ => tries.all() == 1,
        }
    }
}

/// Failed attempts of a fetch. 429s are counted apart: they mean that the pace was wrong, not the request.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    throttled: u32,
    others: u32,
}

impl Tries {
    fn count(&mut self, kind: FailureKind) {
        let count = if kind == FailureKind::Throttled { &mut self.throttled } else { &mut self.others };
        *count += 1;
    }

    fn all(self) -> u32 {
        self.throttled + self.others
    }

    fn are_used_up(self, kind: FailureKind) -> bool {
        if kind == FailureKind::Throttled { self.throttled >= THROTTLED_TRIES } else { self.others >= TRIES }
    }
}

/// Doubles with every attempt and is spread over half its length, so that many retries of one moment do not come back
/// at once.
fn wait(tries: u32) -> Duration {
    backoff(FIRST_WAIT, tries, LONGEST_WAIT).mul_f64(0.5 + fastrand::f64() / 2.0)
}
