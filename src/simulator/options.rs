//! The properties of a simulator.

use std::time::Duration;

use super::faults::InjectedFault;
use super::life::Lifecycle;

/// The client id that a simulator accepts by default.
pub const CLIENT_ID: &str = "simulated-client";
/// The client secret that a simulator accepts by default.
pub const CLIENT_SECRET: &str = "simulated-secret";
/// The static token that a simulator accepts by default.
pub const STATIC_TOKEN: &str = "simulated-token";

/// The properties of the simulated API.
#[derive(Clone)]
pub struct Options {
    /// Determines orders and conversations.
    pub seed: u64,
    /// How many orders `orders` lists. Any other order id gets a reply as well.
    pub orders: u64,
    /// How many Connect users own the orders; 0 gives every order its own user.
    pub users: u64,
    /// Added to each chat reply.
    pub latency: Duration,
    /// Share of the orders (0 to 1) that answer 404, code 4000.
    pub not_found_share: f64,
    /// Share of the orders (0 to 1) that are expired; ignored with a lifecycle.
    pub expired_share: f64,
    /// With a lifecycle orders are placed, discussed, completed and deleted; `None` means that nothing about them
    /// changes.
    pub lifecycle: Option<Lifecycle>,
    /// Requests above this rate get a 429, token requests too; `None` means no ceiling.
    pub max_requests_per_second: Option<u32>,
    /// How long a token lives.
    pub token_lifetime: Duration,
    pub reply_age: ReplyAge,
    /// Read receipts appear once the simulator has run this long; `None` means not before
    /// `Running::show_read_receipts`. With a lifecycle each receipt has its own time instead.
    pub read_after: Option<Duration>,
    /// The faults from the start.
    pub faults: Vec<InjectedFault>,
    /// The client id that gets tokens.
    pub client_id: String,
    pub client_secret: String,
    /// A token that sees every order and never expires.
    pub static_token: String,
}

/// Which version of the documentation the replies follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyAge {
    /// No `is_expired`: an expired order is merely empty.
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
