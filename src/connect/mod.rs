//! The Instacart Connect API: the only place that knows HTTP.
//!
//! A [`Client`] lasts as long as the process and holds connections, tokens and the pace. A run opens a [`Session`] on
//! it. [`Session::fetch`] requests one order's conversation and returns an
//! [`Outcome`](crate::domain::Outcome), or the reason to stop the whole run.
//! A fetch retries what the policy table ([`FailureKind::policy`](crate::domain::FailureKind::policy)) says, with
//! growing, jittered waits. A 401 renews the token once; after code 4001 the other kind of token is tried. An outage
//! of the whole API is waited out (`breaker`).

mod api_error;
mod auth;
mod breaker;
mod context;
mod encoding;
mod error;
mod http;
mod memory;
mod messages;
mod pace;
mod peer;
mod reply;
mod session;
mod text;

pub use api_error::ApiError;
pub use error::{Asked, Broken, Error, NoClient};
pub use memory::Reservation;
pub use messages::Client;
pub use pace::Pace;
pub use reply::decode;
pub use session::{Answer, Fetched, Session};
