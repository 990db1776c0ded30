//! A simulator and a client, for the tests over HTTP.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use super::super::orders::{self, Fate};
use super::super::{CLIENT_ID, CLIENT_SECRET, ListedOrder, Options, Running, start};

pub(super) struct Scene {
    pub(super) options: Options,
    pub(super) running: Running,
    pub(super) client: Client,
}

impl Scene {
    pub(super) async fn new(options: Options) -> Self {
        // Fails only if another test installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            running: start(listen, options.clone()).await.unwrap(),
            client: Client::builder().no_proxy().build().unwrap(),
            options,
        }
    }

    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = Url::parse(&self.running.base_url()).unwrap();
        url.path_segments_mut().unwrap().extend(segments);
        url
    }

    pub(super) fn chat(&self, order_id: &str, token: &str) -> RequestBuilder {
        self.client
            .get(self.url(&["v2", "post_checkout", "chat", order_id, "messages"]))
            .header("Accept", "application/json")
            .bearer_auth(token)
    }

    pub(super) fn oauth(&self, route: &str, body: &Value) -> RequestBuilder {
        self.client
            .post(self.url(&["v2", "oauth", route]))
            .header("Content-Type", "application/json")
            .body(body.to_string())
    }

    /// Returns a token for `user`, or a backend token.
    pub(super) async fn token(&self, user: Option<&str>) -> String {
        let (status, reply) = send(self.oauth("token", &grant(user))).await;
        assert_eq!(status, StatusCode::OK);
        reply["access_token"].as_str().unwrap().to_owned()
    }

    /// Returns the first listed order that is readable.
    pub(super) fn readable(&self) -> ListedOrder {
        orders::orders(&self.options)
            .find(|order| orders::fate(&self.options, &order.order_id) == Fate::Readable)
            .unwrap()
    }
}

pub(super) fn grant(user: Option<&str>) -> Value {
    let client = json!({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET});
    let grant = match user {
        Some(user) => json!({
            "grant_type": "fulfillment_user_assertion",
            "scope": "connect:post_checkout",
            "assertion": STANDARD.encode(json!({"user_id": user}).to_string()),
        }),
        None => json!({"grant_type": "client_credentials", "scope": "connect:fulfillment"}),
    };
    with(&client, &grant)
}

pub(super) fn with(base: &Value, changes: &Value) -> Value {
    let mut all = base.clone();
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    all
}

pub(super) async fn send(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Sends a request that must be refused with a single error; returns its status and code.
pub(super) async fn refused(request: RequestBuilder) -> (u16, u64) {
    let (status, body) = send(request).await;
    assert!(body["error"]["message"].is_string(), "{status}: {body}");
    (status.as_u16(), body["error"]["code"].as_u64().unwrap())
}
