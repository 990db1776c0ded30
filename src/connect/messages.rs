//! Requests one order's conversation, as often as its tokens make necessary, and decodes the reply.
//!
//! A [`Session`](super::Session) asks for every attempt of a fetch.

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_LANGUAGE, AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::api_error::ApiError;
use super::auth::{Token, Tokens};
use super::context::FetchContext;
use super::error::{Asked, Error, NoClient};
use super::http::Http;
use super::memory::Reservation;
use super::pace::Pace;
use super::reply;
use super::text::says_nothing;
use crate::config::{ApiSettings, Auth, PaceSettings};
use crate::domain::{ClaimedOrder, FailureKind, Fault, IdSpace, Outcome, TokenKind, reply_hash};
use crate::waits::Waits;

/// Says whether `order_id` is Instacart's own id or the retailer's.
const X_TREAT_IDS_AS_INTERNAL: HeaderName = HeaderName::from_static("x-treat-ids-as-internal");
/// Names the banner, if a retailer has several.
const X_RETAILER_ID: HeaderName = HeaderName::from_static("x-retailer-id");

/// A client for one Connect server with one set of credentials. Create one per process: it owns the connections and
/// the pace.
pub struct Client {
    http: Http,
    tokens: Tokens,
    /// The id space of orders without overrides.
    id_space: IdSpace,
    accept_language: Option<String>,
    pub(super) waits: Waits,
}

impl Client {
    /// Creates a client from the configuration. It records its waits in `waits`. Fails if HTTPS is needed and the
    /// system has no certificates.
    pub fn new(api: &ApiSettings, auth: &Auth, pace: &PaceSettings, waits: Waits) -> Result<Self, NoClient> {
        let controller = Pace::new(pace.initial_requests_per_second, pace.max_requests_per_second);
        Ok(Self {
            http: Http::new(api, controller.with_waits(waits.clone()), pace.max_in_flight)?,
            tokens: Tokens::new(auth),
            id_space: IdSpace {
                api: api.base_url.as_str().into(),
                retailer_id: api.retailer_id.as_deref().unwrap_or_default().into(),
                ids_internal: api.treat_ids_as_internal,
            },
            accept_language: api.accept_language.clone(),
            waits,
        })
    }

    /// Returns the server's base URL, under which the pace is stored.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.http.base_url.as_str()
    }

    /// Returns where the ids of orders without overrides are looked up.
    #[must_use]
    pub fn default_id_space(&self) -> &IdSpace {
        &self.id_space
    }

    /// Returns where an order's id is looked up: the configured server, banner and kind of ids, unless the order
    /// overrides them.
    #[must_use]
    pub fn id_space(&self, order: &ClaimedOrder) -> IdSpace {
        let IdSpace { api, retailer_id, ids_internal } = &self.id_space;
        IdSpace {
            api: Arc::clone(api),
            retailer_id: order.retailer_id.as_deref().map_or_else(|| Arc::clone(retailer_id), Arc::from),
            ids_internal: order.ids_internal.unwrap_or(*ids_internal),
        }
    }

    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.http.pace
    }

    /// Makes one attempt. Returns the outcome and the memory that it owns.
    ///
    /// Which kind of token an order needs is unknown before the first request. Code 4001 means that it was the wrong
    /// kind, in either direction: it is documented for client credentials, but its text, "User ID not found", can be
    /// true of a user as well. A 401 or 403 does not mean that: it is about a credential or the account, and trying
    /// the other kind would double the requests of every order. A kind that worked instead of the one in `auth.mode`
    /// is stored with the order. Once its credential is refused, the other kind is tried again.
    pub(super) async fn ask(
        &self,
        order: &ClaimedOrder,
        context: &mut FetchContext<'_>,
    ) -> Result<(Outcome, Reservation), Error> {
        let (first, default) = (self.tokens.first_kind(order), self.tokens.default_kind());
        let refusal = match self.ask_as(first, order, context).await {
            Err(error)
                if is_about_the_token(&error) && (error.kind() == FailureKind::WantsUserToken || first != default) =>
            {
                error
            }
            answered => return answered,
        };
        let Some(other) = self.tokens.other_kind(first, order) else {
            return Err(Error::WantsOtherToken { refusal: Box::new(refusal), other: None });
        };
        match self.ask_as(other, order, context).await {
            Err(error) if is_about_the_token(&error) && !error.stops_the_run() => {
                Err(Error::WantsOtherToken { refusal: Box::new(refusal), other: Some(Box::new(error)) })
            }
            Ok(answer) => {
                if matches!(answer.0, Outcome::Read(..) | Outcome::Same) {
                    context.token_kind = Some(other).filter(|kind| *kind != default);
                }
                Ok(answer)
            }
            failed => failed,
        }
    }

    /// Makes one attempt with this kind of token, renewed if it was refused.
    async fn ask_as(
        &self,
        kind: TokenKind,
        order: &ClaimedOrder,
        context: &mut FetchContext<'_>,
    ) -> Result<(Outcome, Reservation), Error> {
        let is_shared = self.tokens.is_shared(kind);
        let token = self.tokens.token(&self.http, order, kind, None, context).await?;
        if let Some(answer) = self.ask_with(&token, is_shared, order, context).await? {
            return Ok(answer);
        }
        let renewed = self.tokens.token(&self.http, order, kind, Some(&token), context).await?;
        let refused = Error::Unauthorized { asked_for: Asked::Messages, is_shared };
        self.ask_with(&renewed, is_shared, order, context).await?.ok_or(refused)
    }

    /// Sends `GET /v2/post_checkout/chat/{order_id}/messages`. Returns `None` if the token was refused.
    async fn ask_with(
        &self,
        token: &Token,
        is_shared: bool,
        order: &ClaimedOrder,
        context: &mut FetchContext<'_>,
    ) -> Result<Option<(Outcome, Reservation)>, Error> {
        let authorization = HeaderValue::try_from(format!("Bearer {}", token.secret.expose_secret()));
        let Ok(mut authorization) = authorization else {
            // The token holds a line break or another invalid character.
            return Err(Error::Unauthorized { asked_for: Asked::Messages, is_shared });
        };
        authorization.set_sensitive(true);
        let IdSpace { retailer_id, ids_internal, .. } = self.id_space(order);
        let ids_internal = HeaderValue::from_static(if ids_internal { "true" } else { "false" });
        let request = |client: &reqwest::Client| {
            let url = self.http.url(&["v2", "post_checkout", "chat", order.order_id.as_str(), "messages"]);
            let mut request = client.get(url).header(X_TREAT_IDS_AS_INTERNAL, &ids_internal);
            // An empty override sends no header.
            if !retailer_id.is_empty() {
                request = request.header(X_RETAILER_ID, &*retailer_id);
            }
            if let Some(language) = &self.accept_language {
                request = request.header(ACCEPT_LANGUAGE, language);
            }
            request.header(AUTHORIZATION, &authorization)
        };
        let reply = self.http.exchange(Asked::Messages, request, context).await?;
        match reply.status {
            StatusCode::OK if !says_nothing(&reply.body) => {
                let outcome = read(&reply.body, order);
                let not_understood = |fault| Error::NotUnderstood { asked_for: Asked::Messages, status: 200, fault };
                Ok(Some((outcome.map_err(not_understood)?, reply.reservation)))
            }
            StatusCode::UNAUTHORIZED => Ok(None),
            status if status.is_success() || status.is_redirection() => Err(empty(status, &reply.body)),
            _ => {
                let outcome = match reply.error(Asked::Messages).keeping(&reply.body, token.secret.expose_secret()) {
                    Error::Status { status: 404, api: Some(api), .. } if api.has(ApiError::RESOURCE_NOT_FOUND) => {
                        Outcome::NotFound
                    }
                    error @ Error::Status { status: 404, api: Some(_), .. } => Outcome::NotFoundUncoded(error.into()),
                    error => return Err(error),
                };
                Ok(Some((outcome, reply.reservation)))
            }
        }
    }
}

fn read(body: &[u8], order: &ClaimedOrder) -> Result<Outcome, Fault> {
    let reply_hash = reply_hash(body);
    if order.knows(&reply_hash) {
        return Ok(Outcome::Same);
    }
    Ok(Outcome::Read(reply::decode(body)?, reply_hash))
}

fn is_about_the_token(error: &Error) -> bool {
    matches!(error.kind(), FailureKind::WantsUserToken | FailureKind::Unauthorized | FailureKind::TokenRefused)
}

/// Keeps a body that came with the status, for instance of a 206.
fn empty(status: StatusCode, body: &[u8]) -> Error {
    let reason = format!("with status {}, which carries no conversation", status.as_u16());
    let body = (!says_nothing(body)).then(|| Fault::new("$", reason, body));
    Error::Empty { asked_for: Asked::Messages, status: status.as_u16(), body }
}
