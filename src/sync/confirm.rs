//! `chatsync confirm`: an operator accepts results that the storm guard holds back. Sends no request.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::db::queue::{self, Cursor, HeldFilter, Scope};
use crate::db::{self, Error, Store, chat};
use crate::domain::{self, Lease, QueuePolicy, Settlement};

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
        let place = &after;
        let look =
            |mut transaction: db::Transaction| async move { queue::held(&mut *transaction, which, place, BATCH).await };
        let held = store.run(look).await?;
        let Some((last, _)) = held.last() else { break };
        after = last.clone();
        if is_dry_run {
            for (_, kind) in held {
                *counts.entry(kind).or_default() += 1;
            }
            continue;
        }
        let only = &held.into_iter().map(|(order_id, _)| order_id).collect::<Vec<_>>();
        let lease = Lease::new_v4();
        let settle = |mut transaction: db::Transaction| async move {
            let now: DateTime<Utc> =
                sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&mut *transaction).await?;
            // Due or not.
            let scope = Scope { due_by: now + TimeDelta::days(36_525), only: Some(only.clone()) };
            let limit = usize::try_from(BATCH).unwrap_or(usize::MAX);
            let claimed = queue::claim(&mut transaction, &scope, &Cursor::start(), limit, lease, lease_length).await?;
            let mut settlements: Vec<Settlement> =
                claimed.orders.iter().filter_map(|order| domain::confirm(order, now, policy)).collect();
            settlements.sort_unstable_by(|one, other| one.order_id.cmp(&other.order_id));
            let settlements: Vec<&Settlement> = settlements.iter().collect();
            queue::settle(&mut transaction, &settlements).await?;
            chat::upsert(&mut transaction, &settlements).await?;
            Ok(claimed.orders)
        };
        for held in store.run(settle).await?.into_iter().filter_map(|order| order.held) {
            *counts.entry(held.kind.as_str().to_owned()).or_default() += 1;
        }
    }
    Ok(counts.into_iter().collect())
}
