//! `chatsync confirm`: an operator believes what the storm guard holds back. No request is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection as _, PgPool};

use crate::db::queue::{self, Cursor, Held, Scope};
use crate::db::{Error, chat};
use crate::domain::{self, Lease, QueuePolicy, Settlement};

/// Orders settled by one transaction.
const BATCH: i64 = 400;

/// Settles every held order that is meant as if the guard had believed it; returns how many, by the kind of what was
/// held. An order that a worker holds just now is left out: its reply is on the way. With `is_dry_run` nothing changes.
pub async fn confirm(
    pool: &PgPool,
    which: &Held,
    policy: &QueuePolicy,
    lease_length: Duration,
    is_dry_run: bool,
) -> Result<Vec<(String, u64)>, Error> {
    let mut connection = pool.acquire().await?;
    let mut counts = BTreeMap::<String, u64>::new();
    let mut after = String::new();
    loop {
        let held = queue::held(&mut *connection, which, &after, BATCH).await?;
        let Some((last, _)) = held.last() else { break };
        after.clone_from(last);
        if is_dry_run {
            for (_, kind) in held {
                *counts.entry(kind).or_default() += 1;
            }
            continue;
        }
        let mut transaction = connection.begin().await?;
        let now: DateTime<Utc> = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&mut *transaction).await?;
        // Due or not.
        let due_by = now + TimeDelta::days(36_525);
        let scope = Scope { due_by, only: Some(held.into_iter().map(|(order_id, _)| order_id).collect()) };
        let limit = usize::try_from(BATCH).unwrap_or(usize::MAX);
        let (orders, _) =
            queue::claim(&mut transaction, &scope, &Cursor::start(), limit, Lease::new_v4(), lease_length).await?;
        let mut settlements: Vec<Settlement> =
            orders.iter().filter_map(|order| domain::confirm(order, now, policy)).collect();
        settlements.sort_unstable_by(|one, other| one.order_id.cmp(&other.order_id));
        let settlements: Vec<&Settlement> = settlements.iter().collect();
        queue::settle(&mut transaction, &settlements).await?;
        chat::upsert(&mut transaction, &settlements).await?;
        transaction.commit().await?;
        for order in &orders {
            if let Some(held) = &order.held {
                *counts.entry(held.kind.as_str().to_owned()).or_default() += 1;
            }
        }
    }
    Ok(counts.into_iter().collect())
}
