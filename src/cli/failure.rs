//! Prints errors for people.

use crate::{config, connect, db, embedded, feed, sync};

/// Returns the chain of causes on one line, down to the first error of chatsync: its text includes its causes, which
/// would be repeated.
pub(super) fn report(error: &anyhow::Error) -> String {
    let mut texts = Vec::new();
    for cause in error.chain() {
        texts.push(cause.to_string());
        if cause.is::<db::Error>()
            || cause.is::<embedded::Error>()
            || cause.is::<connect::Error>()
            || cause.is::<connect::NoClient>()
            || cause.is::<sync::Error>()
            || cause.is::<config::Problems>()
            || cause.is::<feed::FeedError>()
        {
            break;
        }
    }
    texts.dedup();
    texts.join(": ")
}
