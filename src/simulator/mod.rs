//! A simulated Instacart Connect API: tokens and order conversations over real HTTP, for use without credentials.
//!
//! `chatsync simulate` and `chatsync demo` run it, and so do the tests. It uses nothing of the rest of the crate
//! except the notation of durations, so that an error in how chatsync reads the API is not repeated here.
//! Conversations are generated on request (`content`), as a pure function of the seed and the order id; nothing is
//! stored per order. The stored state is small and bounded: live tokens (`tokens`), the requests of the current second
//! (`limit`) and a few counters. With a lifecycle, the time (`life`) decides how much of a conversation exists yet.
//! `faults` are injected in `routes::gate`, which every request passes; `control` changes them, and the time, while the
//! simulator runs.

mod api;
mod content;
mod control;
mod faults;
mod field;
mod grants;
mod life;
mod limit;
mod options;
mod orders;
mod people;
mod phrases;
mod random;
mod routes;
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
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use api::Api;
pub use api::Stats;
pub use content::{reply, reply_at};
pub use faults::{InjectedFault, InvalidFault};
pub use life::{Life, Lifecycle};
pub use options::{CLIENT_ID, CLIENT_SECRET, Options, ReplyAge, STATIC_TOKEN};
pub use orders::{ListedOrder, connect_user_id, orders};
use wire::{Listener, Scissors};

/// How long `Running::stop` waits for replies in progress, beyond the simulated latency.
const GRACE: Duration = Duration::from_secs(5);

/// A simulator that serves requests until it is stopped or dropped.
pub struct Running {
    address: SocketAddr,
    api: Arc<Api>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

/// Returns the help on faults and on the control endpoint.
#[must_use]
pub fn help() -> String {
    faults::help() + control::HELP
}

/// Starts a simulator on `listen` (port 0 chooses a free port). Fails if the address cannot be bound.
pub async fn start(listen: SocketAddr, options: Options) -> io::Result<Running> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let api = Arc::new(Api::new(options));
    let (stop, stopped) = oneshot::channel();
    let service = routes::router(Arc::clone(&api)).into_make_service_with_connect_info::<Scissors>();
    let server = axum::serve(Listener(listener), service)
        // Dropping the sender stops the server as well.
        .with_graceful_shutdown(async { drop(stopped.await) });
    tracing::debug!(%address, "the simulated API is listening");
    Ok(Running { address, api, stop, server: tokio::spawn(server.into_future()) })
}

impl Running {
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value for `api.base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.api.counters.snapshot()
    }

    /// Returns the time in the simulator: real time, unless it was moved.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.api.present.now()
    }

    /// Moves the simulator's time forward, for orders and tokens.
    pub fn advance(&self, by: Duration) {
        self.api.present.advance(by);
    }

    /// Shows the read receipts of messages from now on, whatever `Options::read_after` is.
    pub fn show_read_receipts(&self) {
        self.api.show_read_receipts();
    }

    /// Changes the ceiling; `None` means no ceiling, 0 answers every request with 429.
    pub fn set_max_requests_per_second(&self, ceiling: Option<u32>) {
        self.api.limit.set(ceiling);
    }

    /// Replaces the faults by these; an empty list ends them.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = InjectedFault>) {
        self.api.faults.set(faults.into_iter().collect());
    }

    /// Returns the current faults, each with the number of requests it hit.
    #[must_use]
    pub fn struck(&self) -> Vec<(String, u64)> {
        self.api.faults.struck()
    }

    /// Revokes every issued token; the static token stays valid.
    pub fn revoke_all_tokens(&self) {
        self.api.tokens.revoke_all(self.api.present.instant());
    }

    /// Accepts no more connections, finishes the replies in progress and returns. Waits for an unfinished request for
    /// at most five seconds plus the latency; that connection ends with the client or with the runtime.
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
