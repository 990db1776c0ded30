//! `Retry-After`. The API is not known to send it; it is honoured if it comes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

/// Returns how long to wait, given in seconds or as an HTTP date. `None` if the header is missing or invalid.
pub(in crate::connect) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    let digits = value.as_bytes().trim_ascii();
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        // A number that is too large becomes the longest wait.
        let seconds = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds));
    }
    let until = date(value)?;
    // Compare with the server's own clock, if it sends one: it need not agree with ours.
    let now = headers.get(DATE).and_then(date).unwrap_or_else(Utc::now);
    // A date in the past becomes the shortest wait.
    Some((until - now).to_std().unwrap_or(Duration::ZERO))
}

fn date(value: &HeaderValue) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(value.to_str().ok()?.trim()).ok()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(retry_after_value: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_read() {
        assert_eq!(parsed("7", None), Some(7));
        assert_eq!(parsed(" 0 ", None), Some(0));
        assert_eq!(parsed("99999999999999999999999999", None), Some(u64::MAX));
    }

    #[test]
    fn a_date_counts_from_the_servers_own_time() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parsed("Sun, 06 Nov 1994 08:50:07 GMT", Some(date)), Some(30));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:49:00 GMT", Some(date)), Some(0));
        // Without a `Date` header our clock counts.
        assert_eq!(parsed(date, None), Some(0));
    }

    #[test]
    fn an_invalid_value_causes_no_wait() {
        for value in ["", "soon", "-1", "1.5", "Sun, 06 Nov"] {
            assert_eq!(parsed(value, None), None, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
