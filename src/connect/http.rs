//! One HTTP exchange: the request at its turn, the reply read to its end but not beyond the cap.
//!
//! Used for conversations and tokens alike, so that the rules hold for both: paced, counted, redirects not followed,
//! a time-out, a cap on the size before and after decompression, and memory reserved for what is read. A large reply is
//! dropped and asked for again when its turn has come, on a connection of its own: connections keep the buffers that
//! they grew.

use std::io::Read as _;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::encoding::{ACCEPTED, Encoding};
use super::error::{ApiError, Asked, Broken, Error, NoClient};
use super::memory::{FREE, LARGE, Memory, Reservation};
use super::pace::{Pace, retry_after};
use super::session::Errand;
use crate::config::{Api, is_loopback};
use crate::domain::Fault;

/// The name under which chatsync calls.
const USER_AGENT: &str = concat!("chatsync/", env!("CARGO_PKG_VERSION"));

/// After so long a silence an HTTP/2 connection is asked whether it is alive, and has as long to answer: within a
/// third of `api.timeout`, and these limits, so that a request can be sent again before its time is over.
const PINGS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Bytes decompressed at once.
const PIECE: usize = 8 * 1024;

pub(super) struct Http {
    client: Client,
    /// For large replies: no connection is used twice.
    once: Client,
    pub(super) base_url: Url,
    pub(super) pace: Pace,
    memory: Memory,
    timeout: Duration,
    max_response_bytes: usize,
}

/// A reply read to its end.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Decompressed. With a status that is no success it may be as it came.
    pub(super) body: Vec<u8>,
    /// Room for the body and what becomes of it.
    pub(super) reservation: Reservation,
}

impl Http {
    pub(super) fn new(api: &Api, pace: Pace, max_in_flight: usize) -> Result<Self, NoClient> {
        // Fails only if a provider was installed before, which is then as good.
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
                // Done by `encoding`, even if another crate switches these features of reqwest on.
                .no_gzip()
                .no_brotli()
                .no_deflate()
                .no_zstd()
                .connect_timeout(api.connect_timeout)
                .pool_max_idle_per_host(idle_connections)
                // Below the idle time-out after which servers answer 408 on a connection.
                .pool_idle_timeout(Duration::from_secs(30))
                .tcp_nodelay(true)
                // Many requests share an HTTP/2 connection: one that is dead would keep all of them, and the next ones.
                .http2_keep_alive_interval(ping)
                .http2_keep_alive_timeout(ping)
                .http2_keep_alive_while_idle(true);
            // A company's proxy cannot reach this machine's loopback.
            if is_loopback(&api.base_url) { builder.no_proxy() } else { builder }
        };
        let client = |idle_connections| match builder(idle_connections).build() {
            // Only HTTPS needs the platform's certificates.
            Err(_) if api.base_url.scheme() == "http" => builder(idle_connections).tls_certs_only([]).build(),
            client => client,
        };
        Ok(Self {
            client: client(max_in_flight)?,
            once: client(0)?,
            base_url: api.base_url.clone(),
            pace,
            memory: Memory::new(),
            timeout: api.timeout,
            max_response_bytes: api.max_response_bytes,
        })
    }

    /// The URL below the base with each text as one segment of its path, percent-encoded.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base_url.clone();
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(segments);
        url
    }

    /// Sends at the pace's turn and reads the reply. A redirect is an error; other statuses are the caller's. `request`
    /// is called once more if the reply is large.
    pub(super) async fn exchange(
        &self,
        asked_for: Asked,
        request: impl Fn(&Client) -> RequestBuilder,
        errand: &mut Errand<'_>,
    ) -> Result<Reply, Error> {
        if let Some(reply) = self.exchange_once(asked_for, request(&self.client), None, errand).await? {
            return Ok(reply);
        }
        let turn = errand.wait(self.memory.reserve_large()).await?;
        let reply = self.exchange_once(asked_for, request(&self.once), Some(turn), errand).await?;
        Ok(reply.expect("only without its turn a large reply is dropped"))
    }

    /// `None` if the reply is large, and it is not its turn.
    async fn exchange_once(
        &self,
        asked_for: Asked,
        request: RequestBuilder,
        large: Option<Reservation>,
        errand: &mut Errand<'_>,
    ) -> Result<Option<Reply>, Error> {
        let turn = errand.wait(self.pace.turn()).await?;
        errand.count_request();
        let mut time = Time { asked_for, within: self.timeout, end: Instant::now() + self.timeout };
        let response = time.limit(request.send()).await?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.pace.was_throttled(&turn);
            errand.count_throttled();
        } else {
            errand.is_answered();
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

    /// Reads to the end also when the run is to stop: what was answered is not asked again.
    async fn read(
        &self,
        mut response: Response,
        large: Option<Reservation>,
        time: &mut Time,
    ) -> Result<Option<Reply>, Error> {
        let (status, encoding) = (response.status(), Encoding::of(response.headers()));
        // Unknown where the body comes in chunks.
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
            // What else is in the body of an error does not matter: its status says enough.
            _ if !status.is_success() => None,
            Ok(()) => None,
            Err(Cut::NotItsTurn) => return Ok(None),
            Err(Cut::TooLarge) => {
                Some(format!("larger than api.max_response_bytes ({} bytes)", self.max_response_bytes))
            }
            Err(Cut::NotAsItSays) => Some("its bytes are not what its Content-Encoding says".to_owned()),
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
        target
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_else(|| "an address that is no URL".to_owned())
    }
}

impl Reply {
    /// The error that a status other than 200 stands for.
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

/// A body as it grows.
struct Body<'a> {
    http: &'a Http,
    bytes: Vec<u8>,
    reservation: Option<Reservation>,
    is_its_turn: bool,
}

/// Why a body is not read any further.
enum Cut {
    /// Large, and it is not its turn.
    NotItsTurn,
    TooLarge,
    /// Its bytes are not what its `Content-Encoding` says.
    NotAsItSays,
}

impl<'a> Body<'a> {
    fn new(http: &'a Http, large: Option<Reservation>, capacity: usize) -> Self {
        let is_its_turn = large.is_some();
        Self { http, bytes: Vec::with_capacity(capacity), reservation: large, is_its_turn }
    }

    /// Waits for memory if it needs more than every body may take.
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

    /// Decompresses by small pieces, so that a small body that swells is cut where any other would be. A body that is not
    /// what it says stays as it came.
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
        Err(Cut::NotAsItSays)
    }
}

/// What is left of `api.timeout`. Waiting for memory does not count: it is not the server's fault.
struct Time {
    asked_for: Asked,
    within: Duration,
    end: Instant,
}

impl Time {
    async fn limit<T>(&self, step: impl Future<Output = reqwest::Result<T>>) -> Result<T, Error> {
        match tokio::time::timeout_at(self.end, step).await {
            Ok(done) => done.map_err(|error| transport(self.asked_for, error)),
            Err(_) => Err(Error::TimedOut { asked_for: self.asked_for, within: self.within }),
        }
    }

    async fn pause<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = waiting.await;
        self.end += start.elapsed();
        done
    }
}

fn transport(asked_for: Asked, error: reqwest::Error) -> Error {
    let what = if error.is_connect() { Broken::Connect } else { Broken::Interrupted };
    // The URL holds the order id and the server's address, which is the operator's business, not the log's.
    Error::Transport { asked_for, what, source: error.without_url() }
}
