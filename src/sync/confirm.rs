//! `chatsync confirm`: an operator accepts results that the storm guard holds back. Sends no request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::db::queue::{self, HeldFilter};
use crate::db::{Error, Store, settle};
use crate::domain::{self, ClaimedOrder, QueuePolicy};

const BATCH: i64 = 400;

/// Settles the selected held orders as if the guard had believed their results. Returns how many, by the kind of
/// result. Skips orders that a worker holds: their replies are on the way. With `is_dry_run` nothing changes.
pub async fn confirm(
    store: &Store,
    which: &HeldFilter,
    policy: &QueuePolicy,
    lease_length: Duration,
    is_dry_run: bool,
) -> Result<Vec<(String, u64)>, Error> {
    let mut counts = BTreeMap::<String, u64>::new();
    let mut after = String::new();
    loop {
        let held = queue::held(store, which, &after, BATCH).await?;
        let Some((last, _)) = held.last() else { break };
        after = last.clone();
        if is_dry_run {
            for (_, kind) in held {
                *counts.entry(kind).or_default() += 1;
            }
            continue;
        }
        let only = &held.into_iter().map(|(order_id, _)| order_id).collect::<Vec<_>>();
        let decide = |order: &ClaimedOrder, now| domain::confirm(order, now, policy);
        let settled = settle::settle_held(store, only, lease_length, decide).await?;
        for held in settled.into_iter().filter_map(|order| order.held) {
            *counts.entry(held.kind.as_str().to_owned()).or_default() += 1;
        }
    }
    Ok(counts.into_iter().collect())
}
