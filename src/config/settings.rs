//! The settings, as the rest of the crate uses them: typed and checked.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use super::secret::Secret;
use crate::domain::{QueuePolicy, Schedule, text_enum};

#[derive(Debug, Clone)]
pub struct Settings {
    pub api: ApiSettings,
    /// `auth.mode`, which every command reads.
    pub auth_mode: AuthMode,
    /// Section `auth`; present if the command needs credentials.
    pub auth: Option<Auth>,
    pub pace: PaceSettings,
    pub database: DatabaseSettings,
    pub queue: QueueSettings,
    pub rejects: RejectSettings,
    pub breaker: BreakerSettings,
    pub guard: GuardSettings,
    pub schedule: ScheduleSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
}

#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The Connect server; a path in it is kept.
    pub base_url: Url,
    /// Header `X-Treat-Ids-As-Internal`.
    pub treat_ids_as_internal: bool,
    /// Header `X-Retailer-Id`.
    pub retailer_id: Option<String>,
    /// Header `Accept-Language`.
    pub accept_language: Option<String>,
    /// Limit for establishing a connection.
    pub connect_timeout: Duration,
    /// Limit for a whole request.
    pub timeout: Duration,
    /// Largest reply that is read, in decompressed bytes.
    pub max_response_bytes: usize,
}

/// Section `auth`: how requests are authorised.
#[derive(Debug, Clone)]
pub enum Auth {
    UserAssertion(ClientCredentials),
    /// One token for all orders.
    ClientCredentials(ClientCredentials),
    /// A token that was issued outside chatsync.
    StaticToken(Secret),
}

/// The credentials for requesting tokens.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    pub client_id: String,
    pub client_secret: Secret,
    /// Scope of users' tokens.
    pub scope: String,
    /// Scope of the token for all orders.
    pub client_scope: String,
}

#[derive(Debug, Clone)]
pub struct PaceSettings {
    /// Ceiling in requests per second; `None` means none.
    pub max_requests_per_second: Option<f64>,
    /// Most requests in flight.
    pub max_in_flight: usize,
    /// Requests per second to start with.
    pub initial_requests_per_second: f64,
}

/// How long to wait for the database.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Limit for one operation.
    pub timeout: Duration,
    /// Limit for a database that is unavailable.
    pub give_up_after: Duration,
}

#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    pub location: DatabaseLocation,
    /// Whether no source sets it.
    pub is_default: bool,
    pub max_connections: u32,
    /// Whether `sync` and `run` apply migrations first.
    pub auto_migrate: bool,
    /// How long a run waits for the database.
    pub patience: Patience,
    /// How long a command other than `run` waits for the database when it starts.
    pub wait_at_start: Duration,
}

#[derive(Debug, Clone)]
pub enum DatabaseLocation {
    /// A server that chatsync starts itself, in the user's data directory.
    Embedded,
    /// A running server; the URL may hold a password.
    Url(Secret),
}

#[derive(Debug, Clone)]
pub struct QueueSettings {
    pub lease: Duration,
    /// Rows of orders that ended longer ago are deleted; `None` means never.
    pub retention: Option<Duration>,
    pub policy: QueuePolicy,
}

/// Section `rejects`: how much of what could not be understood is kept.
#[derive(Debug, Clone, Copy)]
pub struct RejectSettings {
    /// Older rejects are deleted; `None` means no limit.
    pub keep: Option<Duration>,
    /// The oldest rejects are deleted while the total is larger; `None` means no limit.
    pub max_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub struct BreakerSettings {
    /// How long a run waits for an API that is out of order.
    pub give_up_after: Duration,
}

/// Section `guard`: when a run distrusts the API.
#[derive(Debug, Clone, Copy)]
pub struct GuardSettings {
    /// A larger share of closed orders is implausible (0 to 1).
    pub max_suspicious_share: f64,
    /// Shares are judged over at least this many orders.
    pub min_orders: u64,
}

/// Section `schedule`: when `chatsync run` starts runs.
#[derive(Debug, Clone)]
pub struct ScheduleSettings {
    /// The ticks, from cron expression and time zone.
    pub ticks: Schedule,
    /// Whether to run immediately if a tick was missed.
    pub catch_up: bool,
    /// Whether to run immediately after every start.
    pub run_on_start: bool,
}

#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Address of the admin HTTP server; `None` means off.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level or a tracing filter.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

text_enum! {
    /// `auth.mode`: which token is used to read an order.
    AuthMode {
        /// The token of the order's Connect user.
        UserAssertion = "user_assertion",
        /// One token for all orders, requested with the client's credentials.
        ClientCredentials = "client_credentials",
        /// One token for all orders, issued outside chatsync.
        StaticToken = "static_token",
    }
}

/// What a command needs besides the settings that are always read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The database, or not even that.
    Database,
    /// Credentials for the API as well.
    Credentials,
    /// Also a configured database: the daemon does not choose one for months by itself.
    Daemon,
}
