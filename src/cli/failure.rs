//! Errors as a person reads them.

use crate::{config, connect, db, feed, sync};

/// The chain of causes on one line, down to the first error of chatsync's own: those tell their whole story, and what
/// is below them would say it again.
pub(super) fn tell(error: &anyhow::Error) -> String {
    let mut told = Vec::new();
    for cause in error.chain() {
        told.push(cause.to_string());
        if cause.is::<db::Error>()
            || cause.is::<db::embedded::Error>()
            || cause.is::<connect::Error>()
            || cause.is::<connect::NoClient>()
            || cause.is::<sync::Error>()
            || cause.is::<config::Problems>()
            || cause.is::<feed::FeedError>()
        {
            break;
        }
    }
    told.dedup();
    told.join(": ")
}
