//! Parsers of single values: text in, a typed value or what is wrong with it out.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

use super::reader::Wrong;
use super::{DatabaseLocation, Secret, database_url};
use crate::domain::Schedule;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

/// `auth.mode`: which token reads an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// That of the order's Connect user.
    UserAssertion,
    /// One for all, asked for.
    ClientCredentials,
    /// One for all, issued by hand.
    StaticToken,
}

impl AuthMode {
    /// As in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserAssertion => "user_assertion",
            Self::ClientCredentials => "client_credentials",
            Self::StaticToken => "static_token",
        }
    }
}

const DURATION_HINT: &str = "write 500ms, 30s, 5m, 6h or 7d";

pub(super) fn positive_duration(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        Duration::ZERO => Err(Wrong::new("must be longer than nothing", DURATION_HINT)),
        duration => Ok(duration),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(Wrong::new("is not a duration", DURATION_HINT)),
    };
    // A century: longer ones are typing errors, and would overflow times in the database.
    let longest = 100 * 365 * 86_400_000;
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds)) {
        None => Err(Wrong::new("is not a duration", DURATION_HINT)),
        Some(total) if total > longest => Err(Wrong::new("is longer than a century", DURATION_HINT)),
        Some(total) => Ok(Duration::from_millis(total)),
    }
}

pub(super) fn lease(text: &str) -> Result<Duration, Wrong> {
    let lease = positive_duration(text)?;
    if lease < Duration::from_secs(1) {
        return Err(Wrong::new("is shorter than a second", "a lease must outlive a slow request, e.g. 60s"));
    }
    Ok(lease)
}

pub(super) fn base_url(text: &str, allow_insecure_http: bool) -> Result<Url, Wrong> {
    const HINT: &str = "write it like https://connect.instacart.com";
    let url = Url::parse(text).map_err(|error| Wrong::new(format!("is not a URL: {error}"), HINT))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("holds a user name or password", "credentials belong into section auth"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Wrong::new("has a query or fragment", HINT));
    }
    if url.host().is_none() {
        return Err(Wrong::new("names no host", HINT));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) || allow_insecure_http => Ok(url),
        "http" => Err(Wrong::new(
            "is plain HTTP: tokens and conversations would be readable on the way",
            "use https, or set api.allow_insecure_http = true for a test set-up",
        )),
        _ => Err(Wrong::new("is neither https nor http", HINT)),
    }
}

/// Whether a URL means this machine, so that nothing sent to it travels.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

pub(super) fn database_location(url: Secret) -> Result<DatabaseLocation, Wrong> {
    if url.get().expose_secret() == "embedded" {
        Ok(DatabaseLocation::Embedded)
    } else {
        Ok(DatabaseLocation::Url(url.in_form(database_url::normalise)?))
    }
}

pub(super) fn auth_mode(text: &str) -> Result<AuthMode, Wrong> {
    match text {
        "user_assertion" => Ok(AuthMode::UserAssertion),
        "client_credentials" => Ok(AuthMode::ClientCredentials),
        "static_token" => Ok(AuthMode::StaticToken),
        _ => Err(Wrong::new("is not a mode", "write user_assertion, client_credentials or static_token")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Wrong::new("is not a log format", "write text or json")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, Wrong> {
    // A bare word that is no level would be taken for the name of a module, and nothing would be logged.
    let is_bare = text.chars().all(|c| c.is_ascii_alphabetic());
    let is_level = text.parse::<LevelFilter>().is_ok();
    if EnvFilter::try_new(text).is_err() || (is_bare && !is_level) {
        return Err(Wrong::new("is not a log level", "write error, warn, info, debug or trace"));
    }
    Ok(text.to_owned())
}

pub(super) fn header_text(text: &str) -> Result<String, Wrong> {
    match reqwest::header::HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(text.to_owned()),
        _ => Err(Wrong::new("cannot be sent in a header", "use printable ASCII characters")),
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| Wrong::new("is not an address", "write it like 127.0.0.1:9090, or leave it empty"))
}

pub(super) fn rate(text: &str) -> Result<f64, Wrong> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err(Wrong::new("is not a rate", "write requests per second such as 20 or 0.5")),
    }
}

pub(super) fn share(text: &str) -> Result<f64, Wrong> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(Wrong::new("is not a share", "write a number from 0 to 1 such as 0.5")),
    }
}

pub(super) fn positive_rate(text: &str) -> Result<f64, Wrong> {
    match rate(text)? {
        0.0 => Err(Wrong::new("must be more than 0", "write requests per second such as 20 or 0.5")),
        rate => Ok(rate),
    }
}

pub(super) fn cron(text: &str) -> Result<croner::Cron, Wrong> {
    const HINT: &str = "write second, minute, hour, day of month, month, day of week, e.g. 0 */5 * * * *";
    Schedule::parse_cron(text).map_err(|invalid| Wrong::new(invalid.to_string(), HINT))
}

pub(super) fn timezone(text: &str) -> Result<chrono_tz::Tz, Wrong> {
    Schedule::parse_timezone(text).map_err(|invalid| Wrong::new(invalid.to_string(), "write it like America/New_York"))
}

pub(super) fn between<T: TryFrom<i64>, const MIN: i64, const MAX: i64>(text: &str) -> Result<T, Wrong> {
    let hint = || format!("write a whole number from {MIN} to {MAX}");
    let number: i64 = text.parse().map_err(|_| Wrong::new("is not a whole number", hint()))?;
    if !(MIN..=MAX).contains(&number) {
        return Err(Wrong::new("is out of range", hint()));
    }
    T::try_from(number).map_err(|_| Wrong::new("is out of range", hint()))
}
