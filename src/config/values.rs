//! Parsers of single values. Each returns a typed value, or the problem with a hint.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

use super::database_url;
use super::problem::InvalidValue;
use super::secret::Secret;
use super::settings::{AuthMode, DatabaseLocation, LogFormat};
use crate::domain::Schedule;

const DURATION_HINT: &str = "write 500ms, 30s, 5m, 6h or 7d";

pub(super) fn positive_duration(text: &str) -> Result<Duration, InvalidValue> {
    match duration(text)? {
        Duration::ZERO => Err(InvalidValue::new("must be longer than zero", DURATION_HINT)),
        duration => Ok(duration),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, InvalidValue> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(InvalidValue::new("is not a duration", DURATION_HINT)),
    };
    // A century. Longer durations are typing errors and would overflow times in the database.
    let longest = 100 * 365 * 86_400_000;
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds)) {
        None => Err(InvalidValue::new("is not a duration", DURATION_HINT)),
        Some(total) if total > longest => Err(InvalidValue::new("is longer than a century", DURATION_HINT)),
        Some(total) => Ok(Duration::from_millis(total)),
    }
}

pub(super) fn lease(text: &str) -> Result<Duration, InvalidValue> {
    let lease = positive_duration(text)?;
    if lease < Duration::from_secs(1) {
        return Err(InvalidValue::new("is shorter than a second", "a lease must outlive a slow request, e.g. 60s"));
    }
    Ok(lease)
}

pub(super) fn base_url(text: &str, allow_insecure_http: bool) -> Result<Url, InvalidValue> {
    const HINT: &str = "write it like https://connect.instacart.com";
    let url = Url::parse(text).map_err(|error| InvalidValue::new(format!("is not a URL: {error}"), HINT))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidValue::new("holds a user name or password", "credentials belong into section auth"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidValue::new("has a query or fragment", HINT));
    }
    if url.host().is_none() {
        return Err(InvalidValue::new("names no host", HINT));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) || allow_insecure_http => Ok(url),
        "http" => Err(InvalidValue::new(
            "is plain HTTP: tokens and conversations would be readable in transit",
            "use https, or set api.allow_insecure_http = true for a test set-up",
        )),
        _ => Err(InvalidValue::new("is neither https nor http", HINT)),
    }
}

/// Returns whether a URL names this machine, so that nothing leaves it.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

pub(super) fn database_location(url: Secret) -> Result<DatabaseLocation, InvalidValue> {
    if url.get().expose_secret() == "embedded" {
        Ok(DatabaseLocation::Embedded)
    } else {
        Ok(DatabaseLocation::Url(url.in_form(database_url::normalise)?))
    }
}

pub(super) fn auth_mode(text: &str) -> Result<AuthMode, InvalidValue> {
    AuthMode::parse(text)
        .ok_or_else(|| InvalidValue::new("is not a mode", "write user_assertion, client_credentials or static_token"))
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, InvalidValue> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(InvalidValue::new("is not a log format", "write text or json")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, InvalidValue> {
    // A bare word that is no level would be taken for a module's name, and nothing would be logged.
    let is_bare = text.chars().all(|c| c.is_ascii_alphabetic());
    let is_level = text.parse::<LevelFilter>().is_ok();
    if EnvFilter::try_new(text).is_err() || (is_bare && !is_level) {
        return Err(InvalidValue::new("is not a log level", "write error, warn, info, debug or trace"));
    }
    Ok(text.to_owned())
}

pub(super) fn header_text(text: &str) -> Result<String, InvalidValue> {
    // RFC 9110, section 5.5, without the obsolete bytes.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        Ok(text.to_owned())
    } else {
        Err(InvalidValue::new("cannot be sent in a header", "use printable ASCII characters"))
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, InvalidValue> {
    text.parse().map_err(|_| InvalidValue::new("is not an address", "write it like 127.0.0.1:9090, or leave it empty"))
}

pub(super) fn rate(text: &str) -> Result<f64, InvalidValue> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err(InvalidValue::new("is not a rate", "write requests per second such as 20 or 0.5")),
    }
}

pub(super) fn share(text: &str) -> Result<f64, InvalidValue> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(InvalidValue::new("is not a share", "write a number from 0 to 1 such as 0.5")),
    }
}

pub(super) fn positive_rate(text: &str) -> Result<f64, InvalidValue> {
    match rate(text)? {
        0.0 => Err(InvalidValue::new("must be more than 0", "write requests per second such as 20 or 0.5")),
        rate => Ok(rate),
    }
}

pub(super) fn cron(text: &str) -> Result<croner::Cron, InvalidValue> {
    const HINT: &str = "write second, minute, hour, day of month, month, day of week, e.g. 0 */5 * * * *";
    Schedule::parse_cron(text).map_err(|invalid| InvalidValue::new(invalid.to_string(), HINT))
}

pub(super) fn timezone(text: &str) -> Result<chrono_tz::Tz, InvalidValue> {
    Schedule::parse_timezone(text)
        .map_err(|invalid| InvalidValue::new(invalid.to_string(), "write it like America/New_York"))
}

pub(super) fn between<T: TryFrom<i64>, const MIN: i64, const MAX: i64>(text: &str) -> Result<T, InvalidValue> {
    let hint = || format!("write a whole number from {MIN} to {MAX}");
    let number: i64 = text.parse().map_err(|_| InvalidValue::new("is not a whole number", hint()))?;
    if !(MIN..=MAX).contains(&number) {
        return Err(InvalidValue::new("is out of range", hint()));
    }
    T::try_from(number).map_err(|_| InvalidValue::new("is out of range", hint()))
}
