//! The Instacart Connect API: the only place that knows HTTP.
//!
//! A [`Client`] lasts as long as the process: connections, tokens, pace. A run opens a [`Session`] on it, whose
//! [`fetch`](Session::fetch) asks for one order's conversation and answers with an [`Outcome`] for the order, or with
//! the reason to stop the whole run. What is tried again within a fetch is what the policy table
//! ([`FailureKind::policy`](crate::domain::FailureKind::policy)) says, with growing jittered waits; a 401 renews the
//! token once. An outage of the API as a whole is waited out (`breaker`).

mod auth;
mod breaker;
mod error;
mod http;
mod memory;
mod pace;
mod reply;
mod session;
mod text;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_LANGUAGE, AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

pub use error::{ApiError, Asked, Broken, Error};
pub use memory::Reservation;
pub use pace::Pace;
pub use reply::decode;
pub use session::{Answer, Fetched, Session};

use crate::config::{Api, Auth};
use crate::domain::{ClaimedOrder, Fault, Outcome, reply_hash};
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

    /// The server's base URL: what a pace is kept for.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.http.base_url.as_str()
    }

    /// How fast it asks.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.http.pace
    }

    /// One try, with the token renewed if it was refused. What the reply takes of memory comes with the outcome.
    async fn ask(&self, order: &ClaimedOrder, errand: &mut Errand<'_>) -> Result<(Outcome, Reservation), Error> {
        let token = self.tokens.token(&self.http, order, None, errand).await?;
        if let Some(answer) = self.ask_with(&token, order, errand).await? {
            return Ok(answer);
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
    ) -> Result<Option<(Outcome, Reservation)>, Error> {
        let authorization = HeaderValue::try_from(format!("Bearer {}", token.secret.expose_secret()));
        let Ok(mut authorization) = authorization else {
            // A token with a line break in it, or the like.
            return Err(Error::Unauthorized { asked_for: Asked::Messages, is_shared: self.tokens.is_shared() });
        };
        authorization.set_sensitive(true);
        let ids_internal = order.ids_internal.unwrap_or(self.treat_ids_as_internal);
        let ids_internal = HeaderValue::from_static(if ids_internal { "true" } else { "false" });
        // An empty override sends none.
        let retailer_id = order.retailer_id.as_ref().or(self.retailer_id.as_ref()).filter(|id| !id.is_empty());
        let request = |client: &reqwest::Client| {
            let url = self.http.url(&["v2", "post_checkout", "chat", order.order_id.as_str(), "messages"]);
            let mut request = client.get(url).header(X_TREAT_IDS_AS_INTERNAL, &ids_internal);
            if let Some(retailer_id) = retailer_id {
                request = request.header(X_RETAILER_ID, retailer_id);
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
            StatusCode::NOT_FOUND if says_not_found(&reply.body) => Ok(Some((Outcome::NotFound, reply.reservation))),
            status if status.is_success() || status.is_redirection() => Err(empty(status, &reply.body)),
            _ => Err(reply.into_error(Asked::Messages)),
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

/// What is in the body all the same, of a 206 for instance, is kept.
fn empty(status: StatusCode, body: &[u8]) -> Error {
    let reason = format!("with status {}, which brings no conversation", status.as_u16());
    let body = (!reply::says_nothing(body)).then(|| Fault::new("$", reason, body));
    Error::Empty { asked_for: Asked::Messages, status: status.as_u16(), body }
}

/// Whether a 404 is about the order. A proxy's page, or a wrong server's, says nothing about it.
fn says_not_found(body: &[u8]) -> bool {
    ApiError::in_body(body).and_then(|error| error.code) == Some(ApiError::RESOURCE_NOT_FOUND)
}
