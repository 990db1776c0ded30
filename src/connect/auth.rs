//! Access tokens: asked for, cached until shortly before they expire, renewed once when refused.
//!
//! [`Tokens`] serves the three modes. Orders that wait for the same token cause one request: each user has a slot
//! whose lock is held while its token is on the way. The cache is bounded; the least recently used user goes first.
//! Credentials travel in the JSON body only, tokens live in memory only.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lru::LruCache;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::error::{Asked, Error};
use super::http::Http;
use super::session::Errand;
use crate::config::{Auth, ClientCredentials};
use crate::domain::{ClaimedOrder, Fault};

/// Users whose tokens are kept. A token is about a hundred bytes: a few MiB at most.
const CACHED_USERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A token is renewed this long before it expires, or a tenth of its life before if that is shorter.
const MARGIN: Duration = Duration::from_mins(5);

/// Life of a token whose reply does not say: the documented 24 hours.
const DEFAULT_LIFE: Duration = Duration::from_hours(24);

/// No token is trusted for longer, whatever its reply says.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);

/// A token and what to say when it is refused.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    /// Counts the tokens of a slot, so that of many orders that find one refused only the first asks for another.
    generation: u64,
}

pub(super) enum Tokens {
    PerUser {
        credentials: ClientCredentials,
        slots: Mutex<LruCache<String, Arc<Slot>>>,
        /// Whether any token was issued: the client's credentials are good, and a 401 is about a user.
        has_issued: AtomicBool,
    },
    Shared {
        credentials: ClientCredentials,
        slot: Slot,
    },
    Static(SecretString),
}

#[derive(Default)]
pub(super) struct Slot(tokio::sync::Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    generation: u64,
    live: Option<(SecretString, Instant)>,
}

impl Tokens {
    pub(super) fn new(auth: &Auth) -> Self {
        match auth.clone() {
            Auth::UserAssertion(credentials) => {
                let slots = Mutex::new(LruCache::new(CACHED_USERS));
                Self::PerUser { credentials, slots, has_issued: AtomicBool::new(false) }
            }
            Auth::ClientCredentials(credentials) => Self::Shared { credentials, slot: Slot::default() },
            Auth::StaticToken(token) => Self::Static(token),
        }
    }

    /// Whether all orders stand and fall with one credential.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self, Self::PerUser { .. })
    }

    /// The token for an order: from the cache, or asked for. `refused` is one that the API just answered with 401:
    /// it is not given again.
    pub(super) async fn token(
        &self,
        http: &Http,
        order: &ClaimedOrder,
        refused: Option<&Token>,
        errand: &mut Errand<'_>,
    ) -> Result<Token, Error> {
        match self {
            Self::Static(_) if refused.is_some() => {
                Err(Error::Unauthorized { asked_for: Asked::Messages, is_shared: true })
            }
            Self::Static(secret) => Ok(Token { secret: secret.clone(), generation: 0 }),
            Self::Shared { credentials, slot } => slot.token(http, credentials, None, refused, errand).await,
            Self::PerUser { credentials, slots, has_issued } => {
                let user = order.connect_user_id.as_deref().ok_or(Error::NoUser)?;
                let slot = {
                    // Nothing panics while it is held; a poisoned cache is still a cache.
                    let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                    Arc::clone(slots.get_or_insert_ref(user, Arc::default))
                };
                let token = slot.token(http, credentials, Some(user), refused, errand).await;
                match token {
                    Err(Error::Unauthorized { asked_for: Asked::Token, .. }) => {
                        let is_shared = !has_issued.load(Relaxed);
                        Err(Error::Unauthorized { asked_for: Asked::Token, is_shared })
                    }
                    Ok(token) => {
                        has_issued.store(true, Relaxed);
                        Ok(token)
                    }
                    other => other,
                }
            }
        }
    }
}

impl Slot {
    async fn token(
        &self,
        http: &Http,
        credentials: &ClientCredentials,
        user: Option<&str>,
        refused: Option<&Token>,
        errand: &mut Errand<'_>,
    ) -> Result<Token, Error> {
        let mut state = errand.wait(self.0.lock()).await?;
        let is_refused = refused.is_some_and(|token| token.generation == state.generation);
        if let Some((secret, renew_at)) = &state.live
            && !is_refused
            && Instant::now() < *renew_at
        {
            return Ok(Token { secret: secret.clone(), generation: state.generation });
        }
        state.live = None;
        let asked_at = Instant::now();
        let (secret, life) = request(http, credentials, user, errand).await?;
        let generation = state.generation + 1;
        let renew_at = asked_at + life.saturating_sub(MARGIN.min(life / 10));
        *state = SlotState { generation, live: Some((secret.clone(), renew_at)) };
        Ok(Token { secret, generation })
    }
}

/// `POST /v2/oauth/token`.
async fn request(
    http: &Http,
    credentials: &ClientCredentials,
    user: Option<&str>,
    errand: &mut Errand<'_>,
) -> Result<(SecretString, Duration), Error> {
    #[derive(Deserialize)]
    struct Reply {
        access_token: SecretString,
        expires_in: Option<u64>,
    }
    let mut body = json!({
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret.expose_secret(),
        "scope": credentials.scope,
    });
    match user {
        Some(user) => {
            body["grant_type"] = "fulfillment_user_assertion".into();
            body["assertion"] = STANDARD.encode(json!({ "user_id": user }).to_string()).into();
        }
        None => body["grant_type"] = "client_credentials".into(),
    }
    let request = |client: &reqwest::Client| {
        client
            .post(http.url(&["v2", "oauth", "token"]))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.to_string())
    };
    let reply = http.exchange(Asked::Token, request, errand).await?;
    match reply.status {
        StatusCode::OK | StatusCode::CREATED => {}
        // As a rule the client's credentials are wrong, whoever the user is: every other order would meet the same.
        StatusCode::UNAUTHORIZED => return Err(Error::Unauthorized { asked_for: Asked::Token, is_shared: true }),
        status if status.is_client_error() && !is_passing(status) => {
            let answer = Box::new(reply.into_error(Asked::Token));
            return Err(Error::TokenRefused { answer, is_shared: user.is_none() });
        }
        _ => return Err(reply.into_error(Asked::Token)),
    }
    let Reply { access_token, expires_in } = serde_json::from_slice(&reply.body).map_err(|_| {
        // The body is not kept: it may well hold a token.
        let reason = "no JSON object with access_token".to_owned();
        let fault = Fault::new("$", reason, b"");
        Error::NotUnderstood { asked_for: Asked::Token, status: reply.status.as_u16(), fault }
    })?;
    Ok((access_token, expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(LONGEST_LIFE)))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}
