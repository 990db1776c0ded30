//! The Instacart Connect API: the only place that knows HTTP.
//!
//! A [`Client`] lasts as long as the process: connections, tokens, pace. A run opens a [`Session`] on it, whose
//! [`fetch`](Session::fetch) asks for one order's conversation and answers with an [`Outcome`] for the order, or with
//! the reason to stop the whole run. What is tried again within a fetch is what the policy table
//! ([`FailureKind::policy`](crate::domain::FailureKind::policy)) says, with growing jittered waits; a 401 renews the
//! token once, code 4001 is answered with the other kind of token. An outage of the API as a whole is waited out
//! (`breaker`).

mod auth;
mod breaker;
mod encoding;
mod error;
mod http;
mod memory;
mod pace;
mod reply;
mod session;
mod text;

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_LANGUAGE, AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

pub use error::{ApiError, Asked, Broken, Error, NoClient};
pub use memory::Reservation;
pub use pace::Pace;
pub use reply::decode;
pub use session::{Answer, Fetched, Session};

use crate::config::{Api, Auth};
use crate::domain::{ClaimedOrder, FailureKind, Fault, IdSpace, Outcome, TokenKind, reply_hash};
use crate::waits::Waits;
use auth::{Token, Tokens};
use http::Http;
use session::Errand;

/// Whether `order_id` is Instacart's own id rather than the retailer's.
const X_TREAT_IDS_AS_INTERNAL: HeaderName = HeaderName::from_static("x-treat-ids-as-internal");
/// The banner, where a retailer has several.
const X_RETAILER_ID: HeaderName = HeaderName::from_static("x-retailer-id");

/// A client for one Connect server with one set of credentials. Cheap to share, not to make.
pub struct Client {
    http: Http,
    tokens: Tokens,
    /// Of orders that override nothing.
    id_space: IdSpace,
    accept_language: Option<String>,
    waits: Waits,
}

impl Client {
    /// A client as configured. Says in `waits` what it waits for. Fails if HTTPS is needed and the platform has no
    /// certificates.
    pub fn new(api: &Api, auth: &Auth, pace: &crate::config::Pace, waits: Waits) -> Result<Self, NoClient> {
        let controller = Pace::new(pace.initial_requests_per_second, pace.max_requests_per_second);
        Ok(Self {
            http: Http::new(api, controller.explaining(waits.clone()), pace.max_in_flight)?,
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

    /// The server's base URL: what a pace is kept for.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.http.base_url.as_str()
    }

    /// Where the ids of orders that override nothing are looked up.
    #[must_use]
    pub fn default_id_space(&self) -> &IdSpace {
        &self.id_space
    }

    /// Where an order's id is looked up: the configured server, banner and kind of ids, unless the order overrides them.
    #[must_use]
    pub fn id_space(&self, order: &ClaimedOrder) -> IdSpace {
        let IdSpace { api, retailer_id, ids_internal } = &self.id_space;
        IdSpace {
            api: Arc::clone(api),
            retailer_id: order.retailer_id.as_deref().map_or_else(|| Arc::clone(retailer_id), Arc::from),
            ids_internal: order.ids_internal.unwrap_or(*ids_internal),
        }
    }

    /// How fast it asks.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.http.pace
    }

    /// One try. What the reply takes of memory comes with the outcome.
    ///
    /// Which kind of token an order wants is not known before it is asked for. Code 4001 says that it was the wrong one,
    /// in whichever direction: it is documented of client credentials, and its words, "User ID not found", can be as true
    /// of a user. Nothing else says so, above all no 401 or 403: these are about a credential or the account, and would
    /// double the requests of every order. A kind that worked in place of the one that `auth.mode` names is remembered;
    /// once its credential is refused, the other is tried again.
    async fn ask(&self, order: &ClaimedOrder, errand: &mut Errand<'_>) -> Result<(Outcome, Reservation), Error> {
        let (first, default) = (self.tokens.first_kind(order), self.tokens.default_kind());
        let refusal = match self.ask_as(first, order, errand).await {
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
        match self.ask_as(other, order, errand).await {
            Err(error) if is_about_the_token(&error) && !error.stops_the_run() => {
                Err(Error::WantsOtherToken { refusal: Box::new(refusal), other: Some(Box::new(error)) })
            }
            Ok(answer) => {
                if matches!(answer.0, Outcome::Read(..) | Outcome::Same) {
                    errand.token_kind = Some(other).filter(|kind| *kind != default);
                }
                Ok(answer)
            }
            failed => failed,
        }
    }

    /// One try with a token of this kind, renewed if it was refused.
    async fn ask_as(
        &self,
        kind: TokenKind,
        order: &ClaimedOrder,
        errand: &mut Errand<'_>,
    ) -> Result<(Outcome, Reservation), Error> {
        let is_shared = self.tokens.is_shared(kind);
        let token = self.tokens.token(&self.http, order, kind, None, errand).await?;
        if let Some(answer) = self.ask_with(&token, is_shared, order, errand).await? {
            return Ok(answer);
        }
        let renewed = self.tokens.token(&self.http, order, kind, Some(&token), errand).await?;
        let refused = Error::Unauthorized { asked_for: Asked::Messages, is_shared };
        self.ask_with(&renewed, is_shared, order, errand).await?.ok_or(refused)
    }

    /// `GET /v2/post_checkout/chat/{order_id}/messages`; `None` if the token was refused.
    async fn ask_with(
        &self,
        token: &Token,
        is_shared: bool,
        order: &ClaimedOrder,
        errand: &mut Errand<'_>,
    ) -> Result<Option<(Outcome, Reservation)>, Error> {
        let authorization = HeaderValue::try_from(format!("Bearer {}", token.secret.expose_secret()));
        let Ok(mut authorization) = authorization else {
            // A token with a line break in it, or the like.
            return Err(Error::Unauthorized { asked_for: Asked::Messages, is_shared });
        };
        authorization.set_sensitive(true);
        let IdSpace { retailer_id, ids_internal, .. } = self.id_space(order);
        let ids_internal = HeaderValue::from_static(if ids_internal { "true" } else { "false" });
        let request = |client: &reqwest::Client| {
            let url = self.http.url(&["v2", "post_checkout", "chat", order.order_id.as_str(), "messages"]);
            let mut request = client.get(url).header(X_TREAT_IDS_AS_INTERNAL, &ids_internal);
            // An empty override sends none.
            if !retailer_id.is_empty() {
                request = request.header(X_RETAILER_ID, &*retailer_id);
            }
            if let Some(language) = &self.accept_language {
                request = request.header(ACCEPT_LANGUAGE, language);
            }
            request.header(AUTHORIZATION, &authorization)
        };
        let reply = self.http.exchange(Asked::Messages, request, errand).await?;
        match reply.status {
            StatusCode::OK if !reply::says_nothing(&reply.body) => {
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

/// What is in the body all the same, of a 206 for instance, is kept.
fn empty(status: StatusCode, body: &[u8]) -> Error {
    let reason = format!("with status {}, which brings no conversation", status.as_u16());
    let body = (!reply::says_nothing(body)).then(|| Fault::new("$", reason, body));
    Error::Empty { asked_for: Asked::Messages, status: status.as_u16(), body }
}
