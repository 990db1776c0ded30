//! One HTTP exchange: the request at its turn, the reply read to its end but not beyond the cap.
//!
//! Used for conversations and tokens alike, so that the rules hold for both: paced, counted, redirects not followed,
//! time-outs, a cap on the decompressed size.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, StatusCode};
use url::Url;

use super::Errand;
use super::error::{ApiError, Asked, Broken, Error};
use super::pace::Pace;
use super::text;
use crate::config::{Api, is_loopback};
use crate::domain::Fault;

/// The name under which chatsync calls.
const USER_AGENT: &str = concat!("chatsync/", env!("CARGO_PKG_VERSION"));

pub(super) struct Http {
    pub(super) client: reqwest::Client,
    pub(super) base_url: Url,
    pace: Pace,
    max_response_bytes: usize,
}

/// A reply read to its end.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(api: &Api, pace: Pace, max_in_flight: usize) -> Result<Self, reqwest::Error> {
        // Fails only if a provider was installed before, which is then as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            // A token must never travel to another host.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(api.connect_timeout)
            .timeout(api.timeout)
            .pool_max_idle_per_host(max_in_flight)
            // Below the idle time-out after which servers answer 408 on a connection.
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true);
        if is_loopback(&api.base_url) {
            // A company's proxy cannot reach this machine's loopback.
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build()?,
            base_url: api.base_url.clone(),
            pace,
            max_response_bytes: api.max_response_bytes,
        })
    }

    /// The URL below the base with each text as one segment of its path, percent-encoded.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base_url.clone();
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(segments);
        url
    }

    /// Sends at the pace's turn and reads the reply. A redirect is an error; other statuses are the caller's.
    pub(super) async fn exchange(
        &self,
        asked_for: Asked,
        request: RequestBuilder,
        errand: &mut Errand<'_>,
    ) -> Result<Reply, Error> {
        let turn = errand.wait(self.pace.turn()).await?;
        errand.tally.requests += 1;
        let broken = |error| transport(asked_for, error);
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.pace.was_throttled(turn);
            errand.tally.throttled += 1;
        } else if !status.is_server_error() {
            self.pace.went_well(turn);
        }
        if status.is_redirection()
            && let Some(location) = response.headers().get(LOCATION)
        {
            let target = self.host_of(location);
            return Err(Error::Redirect { asked_for, target });
        }
        let mut body = Vec::new();
        // Decompressed bytes: a small reply that swells is cut as well.
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > self.max_response_bytes {
                let reason = format!("larger than api.max_response_bytes ({} bytes)", self.max_response_bytes);
                let fault = Fault { path: "$".to_owned(), reason, body: text::escape(&body) };
                return Err(Error::NotUnderstood { asked_for, status: status.as_u16(), fault });
            }
        }
        Ok(Reply { status, body })
    }

    fn host_of(&self, location: &HeaderValue) -> String {
        let target = location.to_str().ok().and_then(|text| self.base_url.join(text).ok());
        target
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_else(|| "an address that is no URL".to_owned())
    }
}

impl Reply {
    /// The error that a status other than 200 stands for.
    pub(super) fn into_error(self, asked_for: Asked) -> Error {
        Error::Status { asked_for, status: self.status.as_u16(), api: ApiError::in_body(&self.body) }
    }
}

fn transport(asked_for: Asked, error: reqwest::Error) -> Error {
    let what = if error.is_timeout() {
        Broken::TimedOut
    } else if error.is_connect() {
        Broken::Connect
    } else {
        Broken::Interrupted
    };
    // The URL holds the order id and the server's address, which is the operator's business, not the log's.
    Error::Transport { asked_for, what, source: error.without_url() }
}
