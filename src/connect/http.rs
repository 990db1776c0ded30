//! One HTTP exchange: sends a request at its turn and reads the reply up to the cap.
//!
//! Conversations and tokens both go through here, so the same rules hold for both: paced, counted, redirects not
//! followed, a timeout, a cap on the size before and after decompression, and reserved memory. A large reply is
//! dropped and requested again when its turn has come, on a new connection: a connection keeps the buffers it grew.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::api_error::ApiError;
use super::context::FetchContext;
use super::encoding::{ACCEPTED, Encoding};
use super::error::{Asked, Broken, Error, NoClient};
use super::memory::{FREE, LARGE, Memory, Reservation};
use super::pace::{Pace, retry_after};
use super::peer::peer;
use crate::config::{ApiSettings, is_loopback};
use crate::domain::Fault;

/// The `User-Agent` of every request.
const USER_AGENT: &str = concat!("chatsync/", env!("CARGO_PKG_VERSION"));

/// Bounds of the HTTP/2 keep-alive interval and timeout, which are a third of `api.timeout`. A dead connection is then
/// noticed early enough to send the request again in time.
const PINGS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Bytes decompressed at a time.
const PIECE: usize = 8 * 1024;

pub(super) struct Http {
    client: Client,
    /// For large replies: it uses no connection twice.
    once: Client,
    pub(super) base_url: Url,
    peer: Arc<str>,
    pub(super) pace: Pace,
    memory: Memory,
    timeout: Duration,
    max_response_bytes: usize,
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Decompressed, except that the body of an error status may be as it came.
    pub(super) body: Vec<u8>,
    /// The memory of the body and of its decoded form.
    pub(super) reservation: Reservation,
}

impl Http {
    pub(super) fn new(api: &ApiSettings, pace: Pace, max_in_flight: usize) -> Result<Self, NoClient> {
        let peer = peer(&api.base_url, |name| std::env::var(name).ok())?.into();
        // Fails only if another provider is installed already, which works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        let ping = (api.timeout / 3).clamp(PINGS.0, PINGS.1);
        let builder = |idle_connections| {
            let builder = Client::builder()
                .user_agent(USER_AGENT)
                .default_headers(headers.clone())
                // A token must never travel to another host.
                .redirect(reqwest::redirect::Policy::none())
                // `encoding` decompresses, even if another crate enables these features of reqwest.
                .no_gzip()
                .no_brotli()
                .no_deflate()
                .no_zstd()
                .connect_timeout(api.connect_timeout)
                .pool_max_idle_per_host(idle_connections)
                // Shorter than the idle timeout of common servers, which answer 408 on an idle connection.
                .pool_idle_timeout(Duration::from_secs(30))
                .tcp_nodelay(true)
                // Many requests share an HTTP/2 connection: a dead one would block all of them, and the next ones.
                .http2_keep_alive_interval(ping)
                .http2_keep_alive_timeout(ping)
                .http2_keep_alive_while_idle(true);
            // A company's proxy cannot reach this machine's loopback address.
            if is_loopback(&api.base_url) { builder.no_proxy() } else { builder }
        };
        let client = |idle_connections| match builder(idle_connections).build() {
            // Only HTTPS needs the system's certificates.
            Err(_) if api.base_url.scheme() == "http" => builder(idle_connections).tls_certs_only([]).build(),
            client => client,
        };
        Ok(Self {
            client: client(max_in_flight)?,
            once: client(0)?,
            base_url: api.base_url.clone(),
            peer,
            pace,
            memory: Memory::new(),
            timeout: api.timeout,
            max_response_bytes: api.max_response_bytes,
        })
    }

    /// Returns the URL below the base, each text as one percent-encoded segment of the path.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base_url.clone();
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(segments);
        url
    }

    /// Sends at the pace's turn and reads the reply. A redirect is an error; other statuses are left to the caller.
    /// Calls `request` once more if the reply is large.
    pub(super) async fn exchange(
        &self,
        asked_for: Asked,
        request: impl Fn(&Client) -> RequestBuilder,
        context: &mut FetchContext<'_>,
    ) -> Result<Reply, Error> {
        if let Some(reply) = self.exchange_once(asked_for, request(&self.client), None, context).await? {
            return Ok(reply);
        }
        let turn = context.wait(self.memory.reserve_large()).await?;
        let reply = self.exchange_once(asked_for, request(&self.once), Some(turn), context).await?;
        Ok(reply.expect("a large reply is dropped only before its turn"))
    }

    /// Returns `None` if the reply is large and its turn has not come.
    async fn exchange_once(
        &self,
        asked_for: Asked,
        request: RequestBuilder,
        large: Option<Reservation>,
        context: &mut FetchContext<'_>,
    ) -> Result<Option<Reply>, Error> {
        let turn = context.wait(self.pace.turn()).await?;
        context.count_request();
        let (peer, end) = (Arc::clone(&self.peer), Instant::now() + self.timeout);
        let mut time = Time { asked_for, peer, within: self.timeout, end };
        let response = time.limit(request.send()).await?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.pace.was_throttled(&turn);
            context.count_throttled();
        } else {
            context.end_throttling();
            if !status.is_server_error() {
                self.pace.went_well(&turn);
            }
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && let Some(wait) = retry_after(response.headers())
        {
            self.pace.hold_for(wait);
        }
        if status.is_redirection()
            && let Some(location) = response.headers().get(LOCATION)
        {
            let target = self.host_of(location);
            return Err(Error::Redirect { asked_for, target });
        }
        self.read(response, large, &mut time).await
    }

    /// Reads to the end even if the run is being stopped, so that an answered request is not repeated.
    async fn read(
        &self,
        mut response: Response,
        large: Option<Reservation>,
        time: &mut Time,
    ) -> Result<Option<Reply>, Error> {
        let (status, encoding) = (response.status(), Encoding::of(response.headers()));
        // Unknown if the body comes in chunks.
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Body::new(self, large, announced.min(FREE));
        let mut done =
            if announced > LARGE && !body.is_its_turn && status.is_success() { Err(Cut::NotItsTurn) } else { Ok(()) };
        while done.is_ok()
            && let Some(chunk) = time.limit(response.chunk()).await?
        {
            done = body.add(&chunk, time).await;
        }
        if done.is_ok() && encoding != Encoding::Identity {
            done = body.decode(encoding, time).await;
        }
        let reason = match done {
            // The rest of an error's body does not matter: the status is enough.
            _ if !status.is_success() => None,
            Ok(()) => None,
            Err(Cut::NotItsTurn) => return Ok(None),
            Err(Cut::TooLarge) => {
                Some(format!("larger than api.max_response_bytes ({} bytes)", self.max_response_bytes))
            }
            Err(Cut::WrongEncoding) => Some("the bytes do not match the Content-Encoding".to_owned()),
        };
        if let Some(reason) = reason {
            let fault = Fault::new("$", reason, &body.bytes);
            return Err(Error::NotUnderstood { asked_for: time.asked_for, status: status.as_u16(), fault });
        }
        let mut reservation = match body.reservation {
            Some(reservation) => reservation,
            None => self.memory.reserve(body.bytes.len()).await,
        };
        reservation.shrink_to(body.bytes.len());
        Ok(Some(Reply { status, body: body.bytes, reservation }))
    }

    fn host_of(&self, location: &HeaderValue) -> String {
        let target = location.to_str().ok().and_then(|text| self.base_url.join(text).ok());
        target.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "an invalid URL".to_owned())
    }
}

impl Reply {
    /// Returns the error for a status other than 200.
    pub(super) fn error(&self, asked_for: Asked) -> Error {
        let status = self.status.as_u16();
        if !self.status.is_client_error() && !self.status.is_server_error() {
            let body = if asked_for == Asked::Messages { self.body.as_slice() } else { &[] };
            let fault = Fault::new("$", format!("a reply with status {status} instead of 200"), body);
            return Error::NotUnderstood { asked_for, status, fault };
        }
        let api = match asked_for {
            Asked::Messages => ApiError::in_body(&self.body),
            Asked::Token => ApiError::in_token_body(&self.body),
        };
        Error::Status { asked_for, status, api, reject: None }
    }
}

/// A body that is being read.
struct Body<'a> {
    http: &'a Http,
    bytes: Vec<u8>,
    reservation: Option<Reservation>,
    is_its_turn: bool,
}

/// Why reading a body stopped.
enum Cut {
    /// The body is large and its turn has not come.
    NotItsTurn,
    TooLarge,
    /// The bytes do not match the `Content-Encoding`.
    WrongEncoding,
}

impl<'a> Body<'a> {
    fn new(http: &'a Http, large: Option<Reservation>, capacity: usize) -> Self {
        let is_its_turn = large.is_some();
        Self { http, bytes: Vec::with_capacity(capacity), reservation: large, is_its_turn }
    }

    /// Appends a chunk. Waits for memory once the body exceeds [`FREE`].
    async fn add(&mut self, chunk: &[u8], time: &mut Time) -> Result<(), Cut> {
        let size = self.bytes.len() + chunk.len();
        if !self.is_its_turn && size > LARGE {
            return Err(Cut::NotItsTurn);
        }
        if self.reservation.is_none() && size > FREE {
            self.reservation = Some(time.pause(self.http.memory.reserve(LARGE)).await);
        }
        self.bytes.extend_from_slice(chunk);
        if size > self.http.max_response_bytes { Err(Cut::TooLarge) } else { Ok(()) }
    }

    /// Decompresses in small pieces, so that a small body that expands is cut at the cap as well. A body that does not
    /// match its encoding stays as it came.
    async fn decode(&mut self, encoding: Encoding, time: &mut Time) -> Result<(), Cut> {
        let encoded = std::mem::take(&mut self.bytes);
        let is_decoded = match encoding.decoder(&encoded) {
            None => false,
            Some(mut decoder) => {
                let mut piece = vec![0; PIECE];
                loop {
                    match decoder.read(&mut piece) {
                        Ok(0) => break true,
                        Ok(count) => self.add(&piece[..count], time).await?,
                        Err(_) => break false,
                    }
                }
            }
        };
        if is_decoded {
            return Ok(());
        }
        self.bytes = encoded;
        Err(Cut::WrongEncoding)
    }
}

/// What is left of `api.timeout`. Waiting for memory does not count: the server does not cause it.
struct Time {
    asked_for: Asked,
    peer: Arc<str>,
    within: Duration,
    end: Instant,
}

impl Time {
    async fn limit<T>(&self, step: impl Future<Output = reqwest::Result<T>>) -> Result<T, Error> {
        let Ok(done) = tokio::time::timeout_at(self.end, step).await else {
            let peer = Arc::clone(&self.peer);
            return Err(Error::TimedOut { asked_for: self.asked_for, peer, within: self.within });
        };
        done.map_err(|error| self.transport(error))
    }

    fn transport(&self, error: reqwest::Error) -> Error {
        let what = if error.is_connect() { Broken::Connect } else { Broken::Interrupted };
        // Remove the URL: it holds the order id.
        Error::Transport { asked_for: self.asked_for, what, peer: Arc::clone(&self.peer), source: error.without_url() }
    }

    async fn pause<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = waiting.await;
        self.end += start.elapsed();
        done
    }
}
