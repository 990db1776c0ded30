//! Orders whose results the storm guard holds back.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::db::{Error, Store, Transaction};
use crate::domain::HeldKind;

/// Selects held orders; all of them by default.
#[derive(Debug, Clone, Default)]
pub struct HeldFilter {
    pub kinds: Option<Vec<HeldKind>>,
    pub order_ids: Option<Vec<String>>,
}

/// Returns the next `limit` held orders after `after` with their kinds, sorted by id. Takes no locks.
pub async fn held(store: &Store, filter: &HeldFilter, after: &str, limit: i64) -> Result<Vec<(String, String)>, Error> {
    let kinds =
        filter.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.as_str().to_owned()).collect::<Vec<_>>());
    let kinds = kinds.as_deref();
    let look = |mut transaction: Transaction| async move {
        let rows = sqlx::query!(
            r#"-- held
           SELECT order_id, held_kind AS "held_kind!"
           FROM sync.order_queue
           WHERE held_kind IS NOT NULL
             AND state IN ('pending', 'open')
             AND ($1::text[] IS NULL OR held_kind = ANY ($1))
             AND ($2::text[] IS NULL OR order_id = ANY ($2))
             AND order_id > $3
           ORDER BY order_id
           LIMIT $4"#,
            kinds,
            filter.order_ids.as_deref(),
            after,
            limit,
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(rows.into_iter().map(|row| (row.order_id, row.held_kind)).collect())
    };
    store.run("held", look).await
}

/// Counts the held orders by kind.
pub(in crate::db) async fn count_held(connection: &mut PgConnection) -> Result<BTreeMap<HeldKind, u64>, Error> {
    let rows = sqlx::query!(
        r#"-- count_held
           SELECT held_kind AS "held_kind!", count(*) AS "orders!"
           FROM sync.order_queue
           WHERE held_kind IS NOT NULL AND state IN ('pending', 'open')
           GROUP BY held_kind"#
    )
    .fetch_all(connection)
    .await?;
    let parse = |kind: &str| HeldKind::parse(kind).ok_or(Error::Decode { column: "order_queue.held_kind" });
    rows.into_iter().map(|row| Ok((parse(&row.held_kind)?, row.orders.unsigned_abs()))).collect()
}
