//! Layered, typed settings. All problems are reported together.
//!
//! Layers, later wins: `config/default.toml` (built in) → a file → the environment → flags. [`load`] reads every key
//! and collects every [`Problem`] before it fails, so that a configuration can be fixed in one go. The defaults are
//! also the list of known keys: any other key is an error that names it.

mod database_url;
mod problem;
mod reader;
mod secret;
mod settings;
mod sources;
mod values;

use std::time::Duration;

pub use problem::{Problem, Problems};
pub use secret::Secret;
pub use settings::{
    AdminSettings, ApiSettings, Auth, AuthMode, BreakerSettings, ClientCredentials, DatabaseLocation, DatabaseSettings,
    GuardSettings, LogFormat, LogSettings, Needs, PaceSettings, Patience, QueueSettings, RejectSettings,
    ScheduleSettings, Settings,
};
pub use sources::{ConfigFile, DEFAULTS, Sources};
pub(crate) use values::is_loopback;

use crate::domain::{QueuePolicy, Schedule};
use reader::Reader;

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
    let with_credentials: fn(ClientCredentials) -> Auth = match mode? {
        AuthMode::StaticToken => {
            let token = reader.require("auth.token", token?, "set it in the environment, or auth.token_file");
            return Some(Some(Auth::StaticToken(token?)));
        }
        AuthMode::ClientCredentials => Auth::ClientCredentials,
        AuthMode::UserAssertion => Auth::UserAssertion,
    };
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
    Some(Some(with_credentials(credentials)))
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
