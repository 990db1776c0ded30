//! Layered, typed settings. All problems are reported together.
//!
//! Layers, later wins: `config/default.toml` (built in) → a file → the environment → flags. [`load`] reads every key
//! and collects every [`Problem`] before it fails, so that a configuration can be fixed in one go. The defaults are
//! also the list of known keys: any other key is an error that names it.

mod database_url;
mod problem;
mod reader;
mod secret;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub use problem::{Problem, Problems};
pub use secret::Secret;
pub(crate) use values::is_loopback;
pub use values::{AuthMode, LogFormat};

use crate::domain::{QueuePolicy, Schedule};
use reader::Reader;

/// The built-in defaults, which also list all keys.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

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

/// The sources of settings besides the built-in defaults.
#[derive(Debug, Clone)]
pub struct Sources {
    pub file: ConfigFile,
    /// The environment variables of the process, or of a test.
    pub environment: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub enum ConfigFile {
    None,
    /// From `--config FILE`, or found in a usual place.
    Given(PathBuf),
}

impl Sources {
    /// Returns no source besides the built-in defaults.
    #[must_use]
    pub fn built_in() -> Self {
        Self { file: ConfigFile::None, environment: Vec::new() }
    }

    /// Returns the process's environment, and the given file or else the first one found in a usual place.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        // Settings are UTF-8, so other variables are irrelevant.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment: Vec<_> = std::env::vars_os().filter_map(text).collect();
        let file = file.or_else(|| usual_files(&environment).into_iter().find(|file| file.is_file()));
        Self { file: file.map_or(ConfigFile::None, ConfigFile::Given), environment }
    }

    /// Returns whether `DATABASE_URL` is set but overridden by another URL in `CHATSYNC__DATABASE__URL`.
    #[must_use]
    pub fn has_unused_database_url(&self) -> bool {
        let value = |name| self.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim());
        let urls =
            [value("DATABASE_URL"), value("CHATSYNC__DATABASE__URL")].map(|url| url.filter(|url| !url.is_empty()));
        matches!(urls, [Some(unused), Some(used)] if unused != used)
    }
}

/// Returns where a file is looked for: in the current directory, the user's and the machine's configuration.
fn usual_files(environment: &[(String, String)]) -> Vec<PathBuf> {
    let directory = |name| {
        let value = environment.iter().find(|(other, _)| other == name).map(|(_, value)| PathBuf::from(value));
        // <https://specifications.freedesktop.org/basedir>: relative paths are to be ignored.
        value.filter(|path| path.is_absolute())
    };
    let of_the_user = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    let places = [
        Some("config/local.toml".into()),
        of_the_user.as_deref().map(in_directory),
        Some(in_directory(Path::new("/etc"))),
    ];
    places.into_iter().flatten().collect()
}

fn in_directory(directory: &Path) -> PathBuf {
    directory.join("chatsync/chatsync.toml")
}

/// Reads and checks all settings. The error lists every problem, not just the first.
pub fn load(sources: &Sources, needs: Needs) -> Result<Settings, Problems> {
    let mut reader = Reader::open(sources)?;
    let api = api(&mut reader);
    let auth_mode = reader.get("auth.mode", values::auth_mode);
    let auth = auth(&mut reader, auth_mode, needs);
    let pace = pace(&mut reader);
    let database = database(&mut reader, needs);
    let queue = queue(&mut reader);
    let rejects = rejects(&mut reader);
    let breaker = reader.get("breaker.give_up_after", values::positive_duration);
    let guard = guard(&mut reader);
    let schedule = schedule(&mut reader);
    let admin = reader.optional("admin.listen", values::socket_address).map(|listen| AdminSettings { listen });
    let log = log(&mut reader);
    reader.finish()?;
    let settings = || {
        Some(Settings {
            api: api?,
            auth_mode: auth_mode?,
            auth: auth?,
            pace: pace?,
            database: database?,
            queue: queue?,
            rejects: rejects?,
            breaker: BreakerSettings { give_up_after: breaker? },
            guard: guard?,
            schedule: schedule?,
            admin: admin?,
            log: log?,
        })
    };
    Ok(settings().expect("a missing section comes with a problem, and there was none"))
}

fn api(reader: &mut Reader) -> Option<ApiSettings> {
    let allow_insecure_http = reader.bool("api.allow_insecure_http");
    let base_url = reader.get("api.base_url", |text| values::base_url(text, allow_insecure_http.unwrap_or(false)));
    let treat_ids_as_internal = reader.bool("api.treat_ids_as_internal");
    let retailer_id = reader.optional("api.retailer_id", values::header_text);
    let accept_language = reader.optional("api.accept_language", values::header_text);
    let connect_timeout = reader.get("api.connect_timeout", values::positive_duration);
    let timeout = reader.get("api.timeout", values::positive_duration);
    let max_response_bytes = reader.get("api.max_response_bytes", values::between::<usize, 1_024, 134_217_728>);
    Some(ApiSettings {
        base_url: base_url?,
        treat_ids_as_internal: treat_ids_as_internal?,
        retailer_id: retailer_id?,
        accept_language: accept_language?,
        connect_timeout: connect_timeout?,
        timeout: timeout?,
        max_response_bytes: max_response_bytes?,
    })
}

#[expect(clippy::option_option, reason = "outer: is it valid; inner: is it needed")]
fn auth(reader: &mut Reader, mode: Option<AuthMode>, needs: Needs) -> Option<Option<Auth>> {
    let client_id = reader.text("auth.client_id");
    let client_secret = reader.secret("auth.client_secret", "auth.client_secret_file");
    let scope = reader.text("auth.scope");
    let client_scope = reader.text("auth.client_scope");
    let token = reader.secret("auth.token", "auth.token_file");
    if needs == Needs::Database {
        return Some(None);
    }
    let mode = mode?;
    if mode == AuthMode::StaticToken {
        let token = reader.require("auth.token", token?, "set it in the environment, or auth.token_file");
        return Some(Some(Auth::StaticToken(token?)));
    }
    let hint = "set it in the environment or in the file given with --config; `chatsync demo` needs none";
    let client_id = reader.require("auth.client_id", client_id?, hint);
    let client_secret = reader.require(
        "auth.client_secret",
        client_secret?,
        "set it in the environment, or auth.client_secret_file; `chatsync demo` needs none",
    );
    let scope = reader.require("auth.scope", scope?, "the chat endpoint requires connect:post_checkout");
    let scope = scope?;
    let client_scope = client_scope?.unwrap_or_else(|| scope.clone());
    let credentials = ClientCredentials { client_id: client_id?, client_secret: client_secret?, scope, client_scope };
    Some(Some(match mode {
        AuthMode::ClientCredentials => Auth::ClientCredentials(credentials),
        _ => Auth::UserAssertion(credentials),
    }))
}

fn pace(reader: &mut Reader) -> Option<PaceSettings> {
    let ceiling = reader.get("pace.max_requests_per_second", values::rate);
    let max_in_flight = reader.get("pace.max_in_flight", values::between::<usize, 1, 10_000>);
    let initial = reader.get("pace.initial_requests_per_second", values::positive_rate);
    Some(PaceSettings {
        max_requests_per_second: Some(ceiling?).filter(|ceiling| *ceiling > 0.0),
        max_in_flight: max_in_flight?,
        initial_requests_per_second: initial?,
    })
}

fn database(reader: &mut Reader, needs: Needs) -> Option<DatabaseSettings> {
    let is_default = reader.is_default("database.url") && reader.is_default("database.url_file");
    if is_default && needs == Needs::Daemon {
        let hint =
            "set DATABASE_URL, database.url or database.url_file; \"embedded\" is a PostgreSQL of chatsync's own";
        reader.report("database.url", "is not set, and `chatsync run` does not choose a database by itself", hint);
    }
    let url = reader.secret("database.url", "database.url_file");
    let hint = "write postgres://user:password@host:5432/name, or \"embedded\"";
    let location = url
        .and_then(|url| reader.require("database.url", url, hint))
        .and_then(|url| reader.check("database.url", url, values::database_location));
    let max_connections = reader.get("database.max_connections", values::between::<u32, 1, 1_000>);
    let auto_migrate = reader.bool("database.auto_migrate");
    let timeout = reader.get("database.timeout", values::positive_duration);
    let give_up_after = reader.get("database.give_up_after", values::positive_duration);
    let wait_at_start = reader.get("database.wait_at_start", values::duration);
    Some(DatabaseSettings {
        location: location?,
        is_default,
        max_connections: max_connections?,
        auto_migrate: auto_migrate?,
        patience: Patience { timeout: timeout?, give_up_after: give_up_after? },
        wait_at_start: wait_at_start?,
    })
}

fn queue(reader: &mut Reader) -> Option<QueueSettings> {
    let lease = reader.get("queue.lease", values::lease);
    let max_failures = reader.get("queue.max_failures", values::between::<i32, 1, 1_000_000>);
    let retry_backoff = reader.get("queue.retry_backoff", values::positive_duration);
    let retry_backoff_max = reader.get("queue.retry_backoff_max", values::positive_duration);
    let refresh_after = reader.get("queue.refresh_after", values::positive_duration);
    let readable_window = reader.get("queue.readable_window", values::positive_duration);
    let quiet_after = reader.get("queue.quiet_after", values::positive_duration);
    let retention = reader.get("queue.retention", values::duration);
    let policy = QueuePolicy {
        max_failures: max_failures?,
        retry_backoff: retry_backoff?,
        retry_backoff_max: retry_backoff_max?,
        refresh_after: refresh_after?,
        readable_window: readable_window?,
        quiet_after: quiet_after?,
    };
    if policy.retry_backoff_max < policy.retry_backoff {
        reader.report("queue.retry_backoff_max", "is shorter than queue.retry_backoff", "make it at least as long");
    }
    if policy.refresh_after >= policy.readable_window {
        reader.report(
            "queue.refresh_after",
            "is not shorter than queue.readable_window: no conversation could be proven complete",
            "read open orders several times within the window, e.g. every 6h",
        );
    }
    let retention = Some(retention?).filter(|retention| !retention.is_zero());
    if retention.is_some_and(|retention| retention < policy.readable_window) {
        reader.report(
            "queue.retention",
            "is shorter than queue.readable_window: orders would be deleted while the API still returns them",
            "write a longer one, e.g. 90d, or 0s to keep them for ever",
        );
    }
    Some(QueueSettings { lease: lease?, retention, policy })
}

fn rejects(reader: &mut Reader) -> Option<RejectSettings> {
    let keep = reader.get("rejects.keep", values::duration);
    let max_bytes = reader.get("rejects.max_bytes", values::between::<u64, 0, 1_152_921_504_606_846_976>);
    Some(RejectSettings {
        keep: Some(keep?).filter(|keep| !keep.is_zero()),
        max_bytes: Some(max_bytes?).filter(|bytes| *bytes > 0),
    })
}

fn guard(reader: &mut Reader) -> Option<GuardSettings> {
    let max_suspicious_share = reader.get("guard.max_suspicious_share", values::share);
    let min_orders = reader.get("guard.min_orders", values::between::<u64, 1, 1_000>);
    Some(GuardSettings { max_suspicious_share: max_suspicious_share?, min_orders: min_orders? })
}

fn schedule(reader: &mut Reader) -> Option<ScheduleSettings> {
    let cron = reader.get("schedule.cron", values::cron);
    let timezone = reader.get("schedule.timezone", values::timezone);
    let catch_up = reader.bool("schedule.catch_up");
    let run_on_start = reader.bool("schedule.run_on_start");
    Some(ScheduleSettings { ticks: Schedule::new(cron?, timezone?), catch_up: catch_up?, run_on_start: run_on_start? })
}

fn log(reader: &mut Reader) -> Option<LogSettings> {
    let level = reader.get("log.level", values::log_filter);
    let format = reader.get("log.format", values::log_format);
    Some(LogSettings { level: level?, format: format? })
}

/// Converts a database URL as libpq accepts it to the form for sqlx, with everything in the query.
pub fn normalise_url(url: &str) -> Result<String, Problems> {
    database_url::normalise(url).map_err(|wrong| {
        let (key, origin) = ("database.url".to_owned(), "the database URL".to_owned());
        Problems(vec![Problem { key, origin, what: wrong.what, hint: wrong.hint }])
    })
}

/// Parses a duration as in the configuration, for flags.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    values::positive_duration(text).map_err(|wrong| format!("it {}: {}", wrong.what, wrong.hint))
}

#[cfg(test)]
mod tests;
