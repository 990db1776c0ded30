//! Orders that are fetched as evidence for the storm guard.

use std::time::Duration;

use crate::db::{Error, Store, Transaction, interval};
use crate::domain::{ClaimedOrder, IdSpace, OrderId, TokenKind};

/// Orders that are fetched only to learn something about an id space or a user. They are not settled.
#[derive(Debug, Clone, Copy)]
pub enum Witnesses<'a> {
    /// Readable orders: well read within `window`, and not completed longer ago.
    Readable { id_space: &'a IdSpace, window: Duration, users: &'a [String] },
    /// Other orders: first those of other users, then those that were well read.
    Others {
        /// Orders to leave out.
        order_ids: &'a [String],
        users: &'a [String],
    },
}

/// Limits how many live orders are looked at from each end of the queue.
const WITNESSES_AMONG: i64 = 2_000;

/// Returns up to `limit` witnesses without claiming them; their replies are never stored. `defaults` is the id space of
/// orders that override nothing. Takes no locks.
pub async fn witnesses(
    store: &Store,
    which: Witnesses<'_>,
    defaults: &IdSpace,
    limit: i64,
) -> Result<Vec<ClaimedOrder>, Error> {
    let (id_space, window, order_ids, users): (_, _, &[String], &[String]) = match which {
        Witnesses::Readable { id_space, window, users } => (Some(id_space), Some(interval(window)), &[], users),
        Witnesses::Others { order_ids, users } => (None, None, order_ids, users),
    };
    let look = |mut transaction: Transaction| async move {
        let rows = sqlx::query_file!(
            "src/db/sql/witnesses.sql",
            id_space.map(|space| &*space.retailer_id),
            id_space.map(|space| space.ids_internal),
            &*defaults.retailer_id,
            defaults.ids_internal,
            window,
            order_ids,
            users,
            WITNESSES_AMONG,
            limit,
        )
        .fetch_all(&mut *transaction)
        .await?;
        // Skip ids that cannot be sent.
        let witness = rows.into_iter().filter_map(|row| {
            Some(ClaimedOrder {
                connect_user_id: row.connect_user_id,
                token_kind: row.token_kind.as_deref().and_then(TokenKind::parse),
                ids_internal: row.ids_internal,
                retailer_id: row.retailer_id,
                ..ClaimedOrder::unclaimed(OrderId::new(row.order_id).ok()?, row.enqueued_at)
            })
        });
        Ok(witness.collect())
    };
    store.run("witnesses", look).await
}

/// Returns those of `users` with at least `orders` live orders. Reads all live orders once. Takes no locks.
pub async fn large_users(store: &Store, users: &[String], orders: i64) -> Result<Vec<String>, Error> {
    let count = |mut transaction: Transaction| async move {
        let large = sqlx::query_scalar!(
            r#"-- large_users
           SELECT connect_user_id AS "connect_user_id!"
           FROM sync.order_queue
           WHERE state IN ('pending', 'open') AND connect_user_id = ANY ($1)
           GROUP BY connect_user_id
           HAVING count(*) >= $2"#,
            users,
            orders,
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(large)
    };
    store.run("large_users", count).await
}
