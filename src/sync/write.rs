//! One transaction per batch: conversations, rejects, counters, and the queue rows that they settle.

use std::collections::HashSet;

use sqlx::PgPool;
use uuid::Uuid;

use crate::connect::Tally;
use crate::db::runs::Counters;
use crate::db::{self, chat, queue, rejects, runs};
use crate::domain::{Settlement, Verdict};

/// An order on its way into the database.
pub(super) struct Answered {
    pub(super) settlement: Settlement,
    pub(super) tally: Tally,
}

/// Tries of a transaction that met another one's locks in the wrong order.
const TRIES: u32 = 5;

/// Writes a batch. Orders whose lease was lost write nothing; only the requests that they took are counted.
pub(super) async fn write(pool: &PgPool, run_id: Uuid, batch: Vec<Answered>) -> Result<(), db::Error> {
    let (mut settlements, tallies): (Vec<Settlement>, Vec<Tally>) =
        batch.into_iter().map(|answered| (answered.settlement, answered.tally)).unzip();
    let mut counters = Counters::default();
    for tally in tallies {
        counters.requests += u64::from(tally.requests);
        counters.throttled += u64::from(tally.throttled);
    }
    // The queue first: it tells whose lease still holds, and keeps everybody else away until the commit.
    settlements.sort_unstable_by(|one, other| one.order_id.cmp(&other.order_id));
    let mut tries = 1;
    loop {
        match transact(pool, run_id, &settlements, counters).await {
            // Rolled back as a whole, and the leases still hold or do not: it can simply be done again.
            Err(error) if error.is_passing_conflict() && tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

async fn transact(
    pool: &PgPool,
    run_id: Uuid,
    settlements: &[Settlement],
    mut counters: Counters,
) -> Result<(), db::Error> {
    let mut transaction = pool.begin().await?;
    let held = queue::settle(&mut transaction, settlements).await?;
    let kept = still_held(settlements, &held);
    let written = chat::upsert(&mut transaction, &kept).await?;
    rejects::insert(&mut transaction, run_id, &kept).await?;
    count(&mut counters, &kept);
    counters.messages_inserted = written.messages_inserted;
    counters.messages_updated = written.messages_updated;
    counters.users_written = written.users;
    runs::count(&mut transaction, run_id, &counters).await?;
    transaction.commit().await?;
    Ok(())
}

fn still_held<'a>(settlements: &'a [Settlement], held: &HashSet<String>) -> Vec<&'a Settlement> {
    let kept: Vec<_> = settlements.iter().filter(|settled| held.contains(settled.order_id.as_str())).collect();
    if kept.len() < settlements.len() {
        let orders = settlements.len() - kept.len();
        tracing::warn!(orders, "leases were lost while fetching; whoever took the orders over will write them");
    }
    kept
}

fn count(counters: &mut Counters, kept: &[&Settlement]) {
    counters.claimed = kept.len() as u64;
    for settled in kept {
        match settled.verdict {
            Verdict::Changed => counters.fetched += 1,
            Verdict::Unchanged => {
                counters.fetched += 1;
                counters.unchanged += 1;
            }
            Verdict::Closed => counters.closed += 1,
            Verdict::Failed => counters.failed += 1,
            Verdict::Dead => counters.dead += 1,
        }
    }
}
