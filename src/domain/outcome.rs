//! The outcome of a fetch.

use super::{Conversation, FailureKind, Fault};

/// The outcome of a fetch.
#[derive(Debug)]
pub enum Outcome {
    /// 200 and decoded, at least partly; with the [`reply_hash`](super::reply_hash).
    Read(Conversation, Vec<u8>),
    /// 200 and the same reply as before, byte for byte: [`ClaimedOrder::knows`](super::ClaimedOrder::knows).
    Same,
    /// 404 with the API's error body and code 4000.
    NotFound,
    /// 404 with the API's error body, but without code 4000.
    NotFoundUncoded(Failure),
    /// Anything else.
    Failed(Failure),
}

/// Why a fetch came to no reply about the order.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The row of the policy table.
    pub kind: FailureKind,
    /// Text for people, free of chat text, names and tokens.
    pub message: String,
    /// Whether there was an outage of the whole API: then the failure does not count.
    pub in_outage: bool,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// The API's error code, if it gave one.
    pub code: Option<i64>,
    /// The reply itself, if it is kept for inspection.
    pub reject: Option<Fault>,
}

/// How the API refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// The API's error code, if it gave one.
    pub code: Option<i64>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "{}, code {code}", self.status),
            None => write!(f, "{}", self.status),
        }
    }
}

impl Failure {
    /// Returns the refusal, if it was one. A 404 says something about the order or the server; 408, 421, 425 and 429
    /// are temporary.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let status = self
            .http_status
            .filter(|status| (400..500).contains(status) && !matches!(status, 404 | 408 | 421 | 425 | 429))?;
        Some(Refusal { status, code: self.code })
    }
}

impl Outcome {
    /// Returns the status of the reply, if there was one.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Read(..) | Self::Same => Some(200),
            Self::NotFound => Some(404),
            Self::NotFoundUncoded(failure) | Self::Failed(failure) => failure.http_status,
        }
    }
}
