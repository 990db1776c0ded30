//! The Instacart Connect API: the only place that knows HTTP.
//!
//! [`Client::fetch`] asks for one order's conversation and answers with an [`Outcome`] for the order, or with the
//! reason to stop the whole run. What is tried again within a fetch: broken connections, time-outs, 408, 429 and 5xx,
//! with growing jittered waits; a 401 renews the token once. Everything else is decided by [`Error::disposition`].

mod auth;
mod error;
mod http;
mod pace;
mod reply;
mod text;

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_LANGUAGE, AUTHORIZATION, HeaderValue};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use error::{ApiError, Asked, Broken, Disposition, Error};
pub use reply::decode;

use crate::config::{Api, Auth};
use crate::domain::{ClaimedOrder, Outcome};
use auth::{Token, Tokens};
use http::Http;
use pace::Pace;

/// Tries of a request that may pass on its own, and the first wait between them (it doubles).
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A 429 says that the pace was wrong, not the request: the pace falls with each, so these tries end well.
const THROTTLED_TRIES: u32 = 12;
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Requests that a fetch needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them, retries and token requests included.
    pub requests: u32,
    /// Those answered with 429.
    pub throttled: u32,
}

/// A fetch on its way.
struct Errand<'a> {
    tally: Tally,
    stop: &'a CancellationToken,
}

impl Errand<'_> {
    /// Waits for something that is not a reply; gives up once the run is to stop.
    async fn wait<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Error> {
        self.stop.run_until_cancelled(waiting).await.ok_or(Error::Stopped)
    }
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

/// A client for one Connect server with one set of credentials. Cheap to share, not to make.
pub struct Client {
    http: Http,
    tokens: Tokens,
    treat_ids_as_internal: bool,
    retailer_id: Option<String>,
    accept_language: Option<String>,
}

impl Client {
    /// A client as configured. Fails if the platform's certificates cannot be loaded.
    pub fn new(api: &Api, auth: &Auth, pace: &crate::config::Pace) -> Result<Self, reqwest::Error> {
        let controller = Pace::new(pace.initial_requests_per_second, pace.max_requests_per_second);
        Ok(Self {
            http: Http::new(api, controller, pace.max_in_flight)?,
            tokens: Tokens::new(auth),
            treat_ids_as_internal: api.treat_ids_as_internal,
            retailer_id: api.retailer_id.clone(),
            accept_language: api.accept_language.clone(),
        })
    }

    /// Asks for one order's conversation. Once `stop` is cancelled no further request is sent.
    pub async fn fetch(&self, order: &ClaimedOrder, stop: &CancellationToken) -> Fetched {
        let mut errand = Errand { tally: Tally::default(), stop };
        let mut tries = 0;
        loop {
            tries += 1;
            let asked_at = Instant::now();
            let error = match self.ask(order, &mut errand).await {
                Ok(outcome) => return Fetched { answer: Answer::Outcome(outcome), asked_at, tally: errand.tally },
                Err(error) => error,
            };
            let allowed = if error.is_throttled() { THROTTLED_TRIES } else { TRIES };
            let answer = match error.disposition() {
                Disposition::StopRun => Answer::StopRun(error),
                Disposition::GiveUp => Answer::GivenUp,
                Disposition::Retry if tries < allowed => {
                    tracing::debug!(order_id = %order.order_id, kind = error.kind(), tries, "trying again");
                    match errand.wait(tokio::time::sleep(wait(tries))).await {
                        Ok(()) => continue,
                        Err(_) => Answer::GivenUp,
                    }
                }
                _ => Answer::Outcome(Outcome::Failed(error.into())),
            };
            return Fetched { answer, asked_at, tally: errand.tally };
        }
    }

    /// One try, with the token renewed if it was refused.
    async fn ask(&self, order: &ClaimedOrder, errand: &mut Errand<'_>) -> Result<Outcome, Error> {
        let token = self.tokens.token(&self.http, order, None, errand).await?;
        if let Some(outcome) = self.ask_with(&token, order, errand).await? {
            return Ok(outcome);
        }
        let renewed = self.tokens.token(&self.http, order, Some(&token), errand).await?;
        let is_shared = self.tokens.is_shared();
        let refused = Error::Unauthorized { asked_for: Asked::Messages, is_shared };
        self.ask_with(&renewed, order, errand).await?.ok_or(refused)
    }

    /// `GET /v2/post_checkout/chat/{order_id}/messages`; `None` if the token was refused.
    async fn ask_with(
        &self,
        token: &Token,
        order: &ClaimedOrder,
        errand: &mut Errand<'_>,
    ) -> Result<Option<Outcome>, Error> {
        let url = self.http.url(&["v2", "post_checkout", "chat", order.order_id.as_str(), "messages"]);
        let ids_internal = order.ids_internal.unwrap_or(self.treat_ids_as_internal);
        let mut request = self.http.client.get(url).header("X-Treat-Ids-As-Internal", ids_internal.to_string());
        // An empty override sends none.
        let retailer_id = order.retailer_id.as_ref().or(self.retailer_id.as_ref()).filter(|id| !id.is_empty());
        if let Some(retailer_id) = retailer_id {
            request = request.header("X-Retailer-Id", retailer_id);
        }
        if let Some(language) = &self.accept_language {
            request = request.header(ACCEPT_LANGUAGE, language);
        }
        let authorization = HeaderValue::from_str(&format!("Bearer {}", token.secret.expose_secret()));
        let Ok(mut authorization) = authorization else {
            // A token with a line break in it, or the like.
            return Err(Error::Unauthorized { asked_for: Asked::Messages, is_shared: self.tokens.is_shared() });
        };
        authorization.set_sensitive(true);
        let reply = self.http.exchange(Asked::Messages, request.header(AUTHORIZATION, authorization), errand).await?;
        match reply.status {
            StatusCode::OK => match reply::decode(&reply.body) {
                Ok(conversation) => Ok(Some(Outcome::Read(conversation))),
                Err(fault) => Err(Error::NotUnderstood { asked_for: Asked::Messages, status: 200, fault }),
            },
            StatusCode::UNAUTHORIZED => Ok(None),
            StatusCode::NOT_FOUND if says_not_found(&reply.body) => Ok(Some(Outcome::NotFound)),
            _ => Err(reply.into_error(Asked::Messages)),
        }
    }
}

/// Whether a 404 is about the order. A proxy's page, or a wrong server's, says nothing about it.
fn says_not_found(body: &[u8]) -> bool {
    ApiError::in_body(body).and_then(|error| error.code) == Some(ApiError::RESOURCE_NOT_FOUND)
}

/// Doubles from try to try, spread over half of it so that the many of one moment do not come back as one.
fn wait(tries: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}
