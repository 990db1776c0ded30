//! Access tokens: requested, cached until shortly before they expire, renewed once after a 401. A secret or token kept
//! in a file is read again when it is refused.
//!
//! [`Tokens`] serves the three auth modes. Client credentials give two kinds of token: one per user, and one for all
//! orders. `auth.mode` names the kind to try first; an order that needs the other kind gets it.
//! Orders that wait for the same token cause one request: each user has a slot whose lock is held during the request.
//! The cache is bounded and drops the least recently used user. Credentials travel in the JSON body only; tokens are
//! never written to disk.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lru::LruCache;
use parking_lot::Mutex;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::api_error::ApiError;
use super::context::FetchContext;
use super::error::{Asked, Error};
use super::http::Http;
use super::text::without_bom;
use crate::config::{Auth, ClientCredentials, Secret};
use crate::domain::{ClaimedOrder, Fault, TokenKind};

/// Number of users whose tokens are cached. A token is about a hundred bytes: a few MiB at most.
const CACHED_USERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A token is renewed this long before it expires, or after 90 % of its life if that is later.
const MARGIN: Duration = Duration::from_mins(5);

/// Life of a token whose reply states none, or an invalid one: the documented 24 hours.
const DEFAULT_LIFE: Duration = Duration::from_hours(24);

/// Upper bound for the life of a token, whatever its reply says.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);

/// A token, and which of its slot's tokens it is.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    /// Counts the tokens of a slot. When many orders find one token refused, only the first requests another.
    generation: u64,
}

pub(super) enum Tokens {
    Issued(Box<Issued>),
    Static(Secret),
}

/// Tokens requested with the client's credentials.
pub(super) struct Issued {
    credentials: ClientCredentials,
    /// The kind that `auth.mode` names.
    usual: TokenKind,
    users: Mutex<LruCache<String, Arc<Slot>>>,
    client: Slot,
    /// Whether any token was issued. If so, the client's credentials are valid and a 401 is about a user.
    has_succeeded: AtomicBool,
}

#[derive(Default)]
struct Slot(tokio::sync::Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    generation: u64,
    live: Option<(SecretString, Instant)>,
}

impl Tokens {
    pub(super) fn new(auth: &Auth) -> Self {
        let (credentials, usual) = match auth.clone() {
            Auth::UserAssertion(credentials) => (credentials, TokenKind::User),
            Auth::ClientCredentials(credentials) => (credentials, TokenKind::Client),
            Auth::StaticToken(token) => return Self::Static(token),
        };
        let users = Mutex::new(LruCache::new(CACHED_USERS));
        let (client, has_succeeded) = (Slot::default(), AtomicBool::new(false));
        Self::Issued(Box::new(Issued { credentials, usual, users, client, has_succeeded }))
    }

    /// Returns the kind of token that `auth.mode` names. A static token is of unknown kind and counts as the client's.
    pub(super) fn default_kind(&self) -> TokenKind {
        match self {
            Self::Issued(issued) => issued.usual,
            Self::Static(_) => TokenKind::Client,
        }
    }

    /// Returns the kind of token to try first: the one that worked last, if it is available.
    pub(super) fn first_kind(&self, order: &ClaimedOrder) -> TokenKind {
        let default = self.default_kind();
        order.token_kind.filter(|kind| self.other_kind(default, order) == Some(*kind)).unwrap_or(default)
    }

    /// Returns the kind to try after `kind` was the wrong one, if there is one.
    pub(super) fn other_kind(&self, kind: TokenKind, order: &ClaimedOrder) -> Option<TokenKind> {
        match (self, kind) {
            (Self::Static(_), _) => None,
            (Self::Issued(_), TokenKind::User) => Some(TokenKind::Client),
            (Self::Issued(_), TokenKind::Client) => order.connect_user_id.as_ref().map(|_| TokenKind::User),
        }
    }

    /// Returns whether every order depends on a credential of this kind.
    pub(super) fn is_shared(&self, kind: TokenKind) -> bool {
        kind == TokenKind::Client && self.default_kind() == kind
    }

    /// Returns the token for an order, from the cache or from the token endpoint. `refused` is a token that the API
    /// just answered with 401: it is not returned again.
    pub(super) async fn token(
        &self,
        http: &Http,
        order: &ClaimedOrder,
        kind: TokenKind,
        refused: Option<&Token>,
        context: &mut FetchContext<'_>,
    ) -> Result<Token, Error> {
        let issued = match self {
            Self::Static(token) => {
                let secret = refused.map_or_else(|| Some(token.get()), |refused| token.renewed(&refused.secret));
                let secret = secret.ok_or(Error::Unauthorized { asked_for: Asked::Messages, is_shared: true })?;
                return Ok(Token { secret, generation: 0 });
            }
            Self::Issued(issued) => issued,
        };
        let token = issued.token(http, order, kind, refused, context).await;
        match token {
            Err(Error::Unauthorized { asked_for: Asked::Token, .. }) => {
                // Usually the client's credentials are wrong, whichever user it is. A kind that is only the second
                // choice stops no run: the other may work.
                let is_first = kind == issued.usual && !issued.has_succeeded.load(Relaxed);
                Err(Error::Unauthorized { asked_for: Asked::Token, is_shared: is_first || self.is_shared(kind) })
            }
            Err(Error::TokenRefused { answer, .. }) => {
                // RFC 6749 allows 400 as well when the client itself is refused.
                let is_client = kind == issued.usual && answer.refuses_the_client();
                Err(Error::TokenRefused { answer, is_shared: is_client || self.is_shared(kind) })
            }
            Ok(token) => {
                issued.has_succeeded.store(true, Relaxed);
                Ok(token)
            }
            other => other,
        }
    }
}

impl Issued {
    async fn token(
        &self,
        http: &Http,
        order: &ClaimedOrder,
        kind: TokenKind,
        refused: Option<&Token>,
        context: &mut FetchContext<'_>,
    ) -> Result<Token, Error> {
        if kind == TokenKind::Client {
            return self.client.token(http, &self.credentials, None, refused, context).await;
        }
        let user = order.connect_user_id.as_deref().ok_or(Error::NoUser)?;
        let slot = {
            let mut users = self.users.lock();
            Arc::clone(users.get_or_insert_ref(user, Arc::default))
        };
        slot.token(http, &self.credentials, Some(user), refused, context).await
    }
}

impl Slot {
    async fn token(
        &self,
        http: &Http,
        credentials: &ClientCredentials,
        user: Option<&str>,
        refused: Option<&Token>,
        context: &mut FetchContext<'_>,
    ) -> Result<Token, Error> {
        let mut state = context.wait(self.0.lock()).await?;
        let is_refused = refused.is_some_and(|token| token.generation == state.generation);
        if let Some((secret, renew_at)) = &state.live
            && !is_refused
            && Instant::now() < *renew_at
        {
            return Ok(Token { secret: secret.clone(), generation: state.generation });
        }
        state.live = None;
        let asked_at = Instant::now();
        let (secret, life) = issue(http, credentials, user, context).await?;
        let generation = state.generation + 1;
        let renew_at = asked_at + life.saturating_sub(MARGIN.min(life / 10));
        *state = SlotState { generation, live: Some((secret.clone(), renew_at)) };
        Ok(Token { secret, generation })
    }
}

/// Requests a token, and once more if the client's secret is refused and its file holds another one by now.
async fn issue(
    http: &Http,
    credentials: &ClientCredentials,
    user: Option<&str>,
    context: &mut FetchContext<'_>,
) -> Result<(SecretString, Duration), Error> {
    let secret = credentials.client_secret.get();
    let issued = request(http, credentials, &secret, user, context).await;
    let is_refused = match &issued {
        Err(Error::Unauthorized { .. }) => true,
        Err(Error::TokenRefused { answer, .. }) => answer.refuses_the_client(),
        _ => false,
    };
    let renewed = is_refused.then(|| credentials.client_secret.renewed(&secret)).flatten();
    match renewed {
        Some(renewed) => request(http, credentials, &renewed, user, context).await,
        None => issued,
    }
}

/// `POST /v2/oauth/token`.
async fn request(
    http: &Http,
    credentials: &ClientCredentials,
    client_secret: &SecretString,
    user: Option<&str>,
    context: &mut FetchContext<'_>,
) -> Result<(SecretString, Duration), Error> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        access_token: SecretString,
        // Kept as raw JSON: a number too large for its type would make the whole reply unreadable.
        #[serde(borrow)]
        expires_in: Option<&'a RawValue>,
    }
    let mut body = json!({
        "client_id": credentials.client_id,
        "client_secret": client_secret.expose_secret(),
    });
    if let Some(user) = user {
        body["grant_type"] = "fulfillment_user_assertion".into();
        body["scope"] = credentials.scope.as_str().into();
        body["assertion"] = STANDARD.encode(json!({ "user_id": user }).to_string()).into();
    } else {
        body["grant_type"] = "client_credentials".into();
        body["scope"] = credentials.client_scope.as_str().into();
    }
    let request = |client: &reqwest::Client| {
        client
            .post(http.url(&["v2", "oauth", "token"]))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.to_string())
    };
    let reply = http.exchange(Asked::Token, request, context).await?;
    match reply.status {
        StatusCode::OK | StatusCode::CREATED => {}
        StatusCode::UNAUTHORIZED => return Err(Error::Unauthorized { asked_for: Asked::Token, is_shared: true }),
        status
            if status.is_client_error() && !is_temporary(status) && ApiError::in_token_body(&reply.body).is_some() =>
        {
            let answer = Box::new(reply.error(Asked::Token));
            return Err(Error::TokenRefused { answer, is_shared: true });
        }
        _ => return Err(reply.error(Asked::Token)),
    }
    let not_understood = || {
        // Do not keep the body: it may hold a token.
        let fault = Fault::new("$", "no JSON object with access_token", b"");
        Error::NotUnderstood { asked_for: Asked::Token, status: reply.status.as_u16(), fault }
    };
    let Reply { access_token, expires_in } =
        serde_json::from_slice(without_bom(&reply.body)).map_err(|_| not_understood())?;
    if access_token.expose_secret().trim().is_empty() {
        return Err(not_understood());
    }
    Ok((access_token, expires_in.and_then(|json| life(json.get())).unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE)))
}

/// Parses seconds, given as a number or a string, whole or not. Returns `None` for anything else.
fn life(json: &str) -> Option<Duration> {
    let seconds: f64 = json.trim_matches('"').trim().parse().ok()?;
    // A string may also be "inf" or "nan".
    let is_sensible = seconds.is_finite() && seconds >= 0.0;
    is_sensible.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFE))
}

/// Returns whether a status of the token endpoint is temporary and says nothing about the credentials.
fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::TOO_EARLY
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_lives_are_read_in_any_notation_and_invalid_ones_are_ignored() {
        for (json, seconds) in [
            ("3599", 3_599.0),
            ("\"3599\"", 3_599.0),
            ("\" 3599 \"", 3_599.0),
            ("3599.7", 3_599.7),
            ("\"3599.5\"", 3_599.5),
            ("1e3", 1_000.0),
            ("0", 0.0),
        ] {
            assert_eq!(life(json), Some(Duration::from_secs_f64(seconds)), "{json}");
        }
        assert_eq!(life("18446744073709551616"), Some(LONGEST_LIFE));
        for nonsense in ["-1", "-0.5", "\"soon\"", "true", "[]", "{}", "\"\"", "\"inf\"", "\"NaN\"", "[3599]", "1e999"]
        {
            assert_eq!(life(nonsense), None, "{nonsense}");
        }
    }
}
