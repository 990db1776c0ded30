//! The API's own description of an error, in the body of an error reply.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::text::without_bom;

/// The errors of RFC 6749, section 5.2.
const OAUTH_ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Most codes listed in one error text.
const MAX_LISTED_CODES: usize = 5;

/// The API's description of an error, in either documented shape: `{"error": {"message": …, "code": …, "errors":
/// [{"error": {…}}, …]}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Instacart's error codes: that of the error and those of nested errors. May be empty, as `code` may be null.
    codes: BTreeSet<i64>,
    /// The OAuth 2.0 error (RFC 6749, section 5.2), if it is one.
    oauth: Option<&'static str>,
}

impl ApiError {
    /// The order does not exist (chat endpoint).
    pub const RESOURCE_NOT_FOUND: i64 = 4000;
    /// The order needs its user's token instead of the client's.
    pub const USER_NOT_FOUND: i64 = 4001;

    /// Larger bodies are not parsed as errors: a tree takes many times the size of its text.
    const MAX_BODY_BYTES: usize = 64 * 1024;

    /// Returns the error in a body of either documented shape, if it holds one.
    #[must_use]
    pub fn in_body(body: &[u8]) -> Option<Self> {
        let Some(Value::Object(error)) = error_in(body) else { return None };
        let mut codes = BTreeSet::new();
        collect_codes(&error, &mut codes);
        let says_something = error.get("message").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        (says_something || !codes.is_empty()).then_some(Self { codes, oauth: None })
    }

    /// Like [`in_body`](Self::in_body), for the token endpoint, which may also use OAuth 2.0's `{"error":
    /// "invalid_client"}`.
    #[must_use]
    pub fn in_token_body(body: &[u8]) -> Option<Self> {
        match error_in(body) {
            Some(Value::String(name)) => {
                let oauth = OAUTH_ERRORS.into_iter().find(|known| *known == name);
                Some(Self { codes: BTreeSet::new(), oauth })
            }
            _ => Self::in_body(body),
        }
    }

    #[must_use]
    pub fn has(&self, code: i64) -> bool {
        self.codes.contains(&code)
    }

    pub(super) fn first_code(&self) -> Option<i64> {
        self.codes.first().copied()
    }

    /// Returns whether the client itself is refused, for any user.
    pub(super) fn refuses_the_client(&self) -> bool {
        matches!(self.oauth, Some("invalid_client" | "unauthorized_client"))
    }
}

/// The codes with their documented meanings, without the server's own words.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = self.codes.iter().take(MAX_LISTED_CODES).map(|code| match meaning(*code) {
            Some(meaning) => format!("{code}: {meaning}"),
            None => code.to_string(),
        });
        let codes = codes.collect::<Vec<_>>().join(", ");
        match self.oauth {
            Some(name) => f.write_str(name),
            None if codes.is_empty() => f.write_str("an error without a code"),
            None => write!(f, "code {codes}"),
        }
    }
}

fn error_in(body: &[u8]) -> Option<Value> {
    if body.len() > ApiError::MAX_BODY_BYTES {
        return None;
    }
    let mut body: Map<String, Value> = serde_json::from_slice(without_bom(body)).ok()?;
    body.remove("error")
}

/// The recursion is bounded: `serde_json` reads at most 128 levels.
fn collect_codes(error: &Map<String, Value>, codes: &mut BTreeSet<i64>) {
    codes.extend(error.get("code").and_then(code));
    for inner in error.get("errors").and_then(Value::as_array).into_iter().flatten() {
        if let Some(inner) = inner.get("error").unwrap_or(inner).as_object() {
            collect_codes(inner, codes);
        }
    }
}

/// Parses a whole number, also one in a string or with a fraction of zeros.
fn code(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let whole = text.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|digit| digit == b'0'));
    whole.map_or(text.as_str(), |(whole, _)| whole).parse().ok()
}

/// Returns the documented meaning of a code.
fn meaning(code: i64) -> Option<&'static str> {
    Some(match code {
        ApiError::RESOURCE_NOT_FOUND => "resource not found",
        ApiError::USER_NOT_FOUND => "user ID not found, the order needs another kind of token",
        1001 => "a field is missing or not acceptable",
        9999 => "there are several errors",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Option<Vec<i64>> {
        ApiError::in_body(body.as_bytes()).map(|error| error.codes.into_iter().collect())
    }

    #[test]
    fn the_api_error_is_found_in_both_documented_shapes_and_nowhere_else() {
        let single = r#"{"error": {"message": "Resource not found", "code": 4000}, "meta": {"key": "order_id"}}"#;
        let multiple = r#"{"error": {"message": "There were issues", "code": 9999, "errors": [{"error": {"message": "can't be blank", "code": 1001}, "meta": {"key": "order_id"}}, {"error": {"code": 4000}}]}}"#;
        assert_eq!(codes(single), Some(vec![4000]));
        assert_eq!(codes(multiple), Some(vec![1001, 4000, 9999]));
        assert_eq!(codes(&format!("\u{feff}{single}")), Some(vec![4000]));
        for without_code in
            [r#"{"error":{"message":"No such route","code":null}}"#, r#"{"error":{"message":"x","errors":[]}}"#]
        {
            assert_eq!(codes(without_code), Some(vec![]), "{without_code}");
        }
        let too_large = format!(r#"{{"error":{{"code":4000,"message":"{}"}}}}"#, "x".repeat(ApiError::MAX_BODY_BYTES));
        for other in [
            "<html>404</html>",
            "{}",
            r#"{"error":"not found"}"#,
            r#"{"error":{}}"#,
            r#"{"error":null}"#,
            r#"{"error":[4000]}"#,
            r#"{"error":{"code":null,"message":null}}"#,
            r#"{"error":{"code":"E-12","message":" "}}"#,
            r#"{"error":{"message":{"code":4000}}}"#,
            r#"{"code":4000,"message":"Resource not found"}"#,
            r#"{"errors":[{"error":{"code":4000}}]}"#,
            r#"[{"error":{"code":4000}}]"#,
            r#"{"error":{"code":4000}} trailing"#,
            r#"{"error":{"code":4000}"#,
            "",
            "[]",
            "4000",
            &too_large,
        ] {
            assert_eq!(codes(other), None, "{other}");
        }
    }

    #[test]
    fn codes_are_read_in_any_notation_and_at_any_depth() {
        for code in ["4000", "4000.0", r#""4000""#, r#""4000 ""#, r#"" 4000.0""#] {
            let single = format!(r#"{{"error":{{"code":{code}}}}}"#);
            assert_eq!(codes(&single), Some(vec![4000]), "{code}");
            let twice = format!(
                r#"{{"error":{{"code":9999,"errors":[{{"error":{{"errors":[{{"error":{{"code":{code}}}}}]}}}}]}}}}"#
            );
            assert_eq!(codes(&twice), Some(vec![4000, 9999]), "{code}");
            let bare = format!(r#"{{"error":{{"errors":[null,7,{{"code":{code}}}]}}}}"#);
            assert_eq!(codes(&bare), Some(vec![4000]), "{code}");
        }
        for code in ["4000.5", "true", "[4000]", r#""4000x""#, r#""""#, "null", "1e400"] {
            let json = format!(r#"{{"error":{{"message":"no","code":{code}}}}}"#);
            assert!(codes(&json).is_none_or(|codes| codes.is_empty()), "{code}");
        }
    }
}
