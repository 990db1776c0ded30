//! The two token routes of the simulated API, for issuing and revoking, with all checks of the real one.
//!
//! Called by the router. Invariant: credentials are read from a JSON body only.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::{Api, Refused};
use super::tokens::Access;

/// The scope that reads chats.
const CHAT_SCOPE: &str = "connect:post_checkout";
/// The scope of a backend token for which none was requested.
const BACKEND_SCOPE: &str = "connect:fulfillment";

/// The body of both routes; a missing field counts as empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    client_id: String,
    client_secret: String,
    grant_type: String,
    scope: String,
    assertion: String,
    token: String,
}

/// The content of an assertion.
#[derive(Deserialize)]
struct Assertion {
    user_id: String,
}

/// `POST /v2/oauth/token`
pub(super) async fn issue(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let request = TokenRequest::read(&uri, &headers, &body)?;
    request.require(&[("grant_type", &request.grant_type)])?;
    request.authenticate(&api)?;
    let (access, scope) = match request.grant_type.as_str() {
        "client_credentials" if request.scope.is_empty() => (Access::All, BACKEND_SCOPE),
        "client_credentials" => (Access::All, request.scope.as_str()),
        "fulfillment_user_assertion" => (request.asserted_user()?, CHAT_SCOPE),
        _ => return Err(Refused::BadRequest("The grant type is not supported")),
    };
    Ok(Json(json!({
        "access_token": api.tokens.issue(access, api.present.instant()),
        "token_type": "Bearer",
        "expires_in": api.tokens.lifetime().as_secs(),
        "scope": scope,
        "created_at": api.present.now().timestamp(),
    })))
}

/// `POST /v2/oauth/revoke_access_token`: succeeds for an unknown token as well (RFC 7009).
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let request = TokenRequest::read(&uri, &headers, &body)?;
    request.require(&[("token", &request.token)])?;
    request.authenticate(&api)?;
    api.tokens.revoke(&request.token, api.present.instant());
    Ok(Json(json!({})))
}

impl TokenRequest {
    fn read(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Self, Refused> {
        if uri.query().is_some_and(names_credentials) {
            return Err(Refused::Forbidden("Credentials must not be in the query"));
        }
        let is_json =
            headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if !is_json {
            return Err(Refused::BadRequest("Content-Type must be application/json"));
        }
        parse(body, "The body is not a JSON object of strings")
    }

    /// Refuses a request in which one of `fields`, or the client's id or secret, is blank.
    fn require(&self, fields: &[(&'static str, &str)]) -> Result<(), Refused> {
        let client = [("client_id", self.client_id.as_str()), ("client_secret", &self.client_secret)];
        let blank: Vec<_> =
            client.iter().chain(fields).filter(|(_, value)| value.is_empty()).map(|&(name, _)| name).collect();
        if blank.is_empty() { Ok(()) } else { Err(Refused::Blank(blank)) }
    }

    fn authenticate(&self, api: &Api) -> Result<(), Refused> {
        if self.client_id == api.options.client_id && self.client_secret == api.options.client_secret {
            Ok(())
        } else {
            Err(Refused::Unauthorized("Client authentication failed"))
        }
    }

    fn asserted_user(&self) -> Result<Access, Refused> {
        self.require(&[("scope", &self.scope), ("assertion", &self.assertion)])?;
        if self.scope != CHAT_SCOPE {
            return Err(Refused::BadRequest("The scope does not go with the grant type"));
        }
        let json = STANDARD
            .decode(&self.assertion)
            .map_err(|_| Refused::BadRequest("The assertion is not standard, padded Base64"))?;
        let Assertion { user_id } = parse(&json, "The assertion has no user_id")?;
        self.require(&[("user_id", &user_id)])?;
        Ok(Access::User(user_id.into()))
    }
}

fn parse<T: DeserializeOwned>(json: &[u8], complaint: &'static str) -> Result<T, Refused> {
    serde_json::from_slice(json).map_err(|_| Refused::BadRequest(complaint))
}

fn names_credentials(query: &str) -> bool {
    let credentials = ["client_id", "client_secret", "assertion", "token"];
    query.split('&').filter_map(|pair| pair.split('=').next()).any(|name| credentials.contains(&name))
}
