//! A stand-in for the Instacart Connect API: tokens and order conversations over real HTTP, for whoever has no credentials.
//!
//! `chatsync simulate` and `chatsync demo` run it for people, the tests run it for us. It knows nothing of the rest of the crate
//! but how durations are written, so that a mistake in how chatsync reads the API is not repeated here. Content is made up on
//! the spot (`content`): a pure function of the seed and the order id, nothing is kept for an order. What is kept is small and
//! bounded: live tokens (`tokens`), the current second's requests (`limit`) and a few counters. With a lifecycle, the time
//! (`life`) decides what of a conversation there is yet. `faults` strike where every request passes, `api::gate`; `control`
//! changes them, and the time, while the simulator runs.

mod api;
mod content;
mod control;
mod faults;
mod field;
mod grants;
mod life;
mod limit;
mod orders;
mod people;
mod phrases;
mod random;
#[cfg(test)]
mod tests;
mod times;
mod tokens;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use api::Api;
pub use content::{reply, reply_at};
pub use faults::{Fault, InvalidFault};
pub use life::{Life, Lifecycle};
pub use orders::{ListedOrder, connect_user_id, orders};
use wire::{Listener, Scissors};

/// The client id that a simulator accepts by default.
pub const CLIENT_ID: &str = "simulated-client";
/// The client secret that a simulator accepts by default.
pub const CLIENT_SECRET: &str = "simulated-secret";
/// The token issued by hand that a simulator accepts by default.
pub const STATIC_TOKEN: &str = "simulated-token";

/// How long `Running::stop` waits for replies under way, beyond the simulated latency.
const GRACE: Duration = Duration::from_secs(5);

/// What the simulated API is like.
#[derive(Clone)]
pub struct Options {
    /// Another seed, other orders and conversations.
    pub seed: u64,
    /// How many orders `orders` lists. Any other order id is answered just as well.
    pub orders: u64,
    /// How many Connect users own the orders; 0 = a user of its own for every order.
    pub users: u64,
    /// Added to each chat reply.
    pub latency: Duration,
    /// Share of the orders (0 to 1) that answer 404, code 4000.
    pub not_found_share: f64,
    /// Share of the orders (0 to 1) that are expired; without meaning where they have a lifecycle.
    pub expired_share: f64,
    /// Orders are placed, talked about, completed and forgotten; `None` = nothing about them changes.
    pub lifecycle: Option<Lifecycle>,
    /// Above this the answer is 429, for token requests too; `None` = no ceiling.
    pub max_requests_per_second: Option<u32>,
    /// How long a token lives after it was issued.
    pub token_lifetime: Duration,
    /// Whether replies carry `is_expired`.
    pub reply_age: ReplyAge,
    /// Read receipts appear once the simulator has run this long; `None` = not before `Running::show_read_receipts`.
    /// In a lifecycle each has a time of its own instead.
    pub read_after: Option<Duration>,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
    /// The client id that gets tokens.
    pub client_id: String,
    /// The secret that goes with `client_id`.
    pub client_secret: String,
    /// A token that sees every order and never expires, like one issued by hand.
    pub static_token: String,
}

/// Which age of the API's page the replies follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyAge {
    /// No `is_expired`: an expired order is just empty.
    Old,
    /// `is_expired` is present, for some orders at the top level and for others inside `metadata`.
    #[default]
    New,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            orders: 500,
            users: 0,
            latency: Duration::ZERO,
            not_found_share: 0.03,
            expired_share: 0.05,
            lifecycle: None,
            max_requests_per_second: None,
            token_lifetime: Duration::from_hours(24),
            reply_age: ReplyAge::New,
            read_after: None,
            faults: Vec::new(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            static_token: STATIC_TOKEN.to_owned(),
        }
    }
}

/// How many requests came so far. Faults count like answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// All requests, whatever became of them.
    pub requests: u64,
    /// Chat requests that were not throttled.
    pub chat_requests: u64,
    /// Requests to issue a token that were not throttled.
    pub token_requests: u64,
    /// Requests answered with 429.
    pub throttled: u64,
    /// Requests answered with 401.
    pub unauthorized: u64,
}

/// A simulator that answers requests until it is stopped or dropped.
pub struct Running {
    address: SocketAddr,
    api: Arc<Api>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

/// What people need to know to make things go wrong: the faults there are, and how to change them in a running simulator.
#[must_use]
pub fn help() -> String {
    faults::help() + control::HELP
}

/// Starts a simulator on `listen` (port 0 = any free port). Fails if the address cannot be bound.
pub async fn start(listen: SocketAddr, options: Options) -> io::Result<Running> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let api = Arc::new(Api::new(options));
    let (stop, stopped) = oneshot::channel();
    let service = api::router(Arc::clone(&api)).into_make_service_with_connect_info::<Scissors>();
    let server = axum::serve(Listener(listener), service)
        // A dropped sender stops the server as well as a message would.
        .with_graceful_shutdown(async { drop(stopped.await) });
    tracing::debug!(%address, "simulated API listens");
    Ok(Running { address, api, stop, server: tokio::spawn(server.into_future()) })
}

impl Running {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to configure as `api.base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The counters as they stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.api.counters.snapshot()
    }

    /// The time in the simulator: real time, unless it was moved.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.api.present.now()
    }

    /// Moves the simulator's time forward: orders live on, tokens age.
    pub fn advance(&self, by: Duration) {
        self.api.present.advance(by);
    }

    /// From now on messages show their read receipts, whatever `Options::read_after` says.
    pub fn show_read_receipts(&self) {
        self.api.show_read_receipts();
    }

    /// Changes the ceiling; `None` = no ceiling, 0 = every request gets a 429.
    pub fn set_max_requests_per_second(&self, ceiling: Option<u32>) {
        self.api.limit.set(ceiling);
    }

    /// From now on these faults and no others; none = all is well again.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.api.faults.set(faults.into_iter().collect());
    }

    /// Each of the present faults, and how many requests it struck.
    #[must_use]
    pub fn struck(&self) -> Vec<(String, u64)> {
        self.api.faults.struck()
    }

    /// Revokes every issued token; the static token stays valid.
    pub fn revoke_all_tokens(&self) {
        self.api.tokens.revoke_all(self.api.present.instant());
    }

    /// Accepts no more connections, finishes the replies under way and returns.
    /// A client that stays in the middle of a request is waited for no longer than five seconds and the latency.
    /// (Its connection then ends with the client or with the runtime.)
    pub async fn stop(mut self) {
        self.api.stopping.cancel();
        drop(self.stop);
        let grace = GRACE.saturating_add(self.api.options.latency);
        if tokio::time::timeout(grace, &mut self.server).await.is_err() {
            tracing::warn!("the simulated API stopped without waiting for a client that never finished its request");
            self.server.abort();
            drop(self.server.await);
        }
    }
}
