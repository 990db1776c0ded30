//! Leases between claim and write.

use std::time::Duration;

use uuid::Uuid;

use crate::db::{Error, Store, Transaction, interval, runs};
use crate::domain::{Lease, OrderId};

/// Extends leases that still hold, in place, and the sign of life of their run. Skips rows that are locked, for instance
/// by a settlement: waiting for them could deadlock.
pub async fn renew(
    store: &Store,
    run_id: Uuid,
    held: &[(OrderId, Lease)],
    lease_length: Duration,
) -> Result<(), Error> {
    let (order_ids, leases) = &columns(held);
    let renew = |mut transaction: Transaction| async move {
        runs::sign_of_life(&mut transaction, run_id, lease_length).await?;
        if !order_ids.is_empty() {
            sqlx::query!(
                "-- renew
                 WITH held AS (
                     SELECT q.order_id
                     FROM sync.order_queue AS q
                     JOIN unnest($1::text[], $2::uuid[]) AS b (order_id, lease_id)
                       ON q.order_id = b.order_id AND q.lease_id = b.lease_id
                     -- Do not revive an expired lease: another worker may be about to take the order over.
                     WHERE q.leased_until > now()
                     FOR UPDATE OF q SKIP LOCKED
                 )
                 UPDATE sync.order_queue AS q
                 SET leased_until = now() + $3
                 FROM held
                 WHERE q.order_id = held.order_id",
                order_ids as &[&str],
                leases,
                interval(lease_length),
            )
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    };
    store.run("renew", renew).await
}

/// Releases claimed orders unchanged, in place.
pub async fn release(store: &Store, held: &[(OrderId, Lease)]) -> Result<(), Error> {
    let (order_ids, leases) = &columns(held);
    let release = |mut transaction: Transaction| async move {
        sqlx::query!(
            "-- release
             UPDATE sync.order_queue AS q
             SET lease_id = NULL, leased_until = NULL
             FROM unnest($1::text[], $2::uuid[]) AS b (order_id, lease_id)
             WHERE q.order_id = b.order_id AND q.lease_id = b.lease_id",
            order_ids as &[&str],
            leases,
        )
        .execute(&mut *transaction)
        .await?;
        Ok(())
    };
    store.run("release", release).await
}

fn columns(held: &[(OrderId, Lease)]) -> (Vec<&str>, Vec<Uuid>) {
    held.iter().map(|(order_id, lease)| (order_id.as_str(), *lease)).unzip()
}
