//! What `chatsync status` shows, as of one moment.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::db::queue::{self, Overview};
use crate::db::rejects::{self, Dropped};
use crate::db::runs::{self, IdleRuns, Losses, Run};
use crate::db::{Error, Store, Transaction};
use crate::domain::HeldKind;

#[derive(Debug)]
pub struct StatusRows {
    pub overview: Overview,
    pub held: BTreeMap<HeldKind, u64>,
    pub dropped: Vec<Dropped>,
    /// Orders by coverage, the most frequent first.
    pub coverage: Vec<(String, i64)>,
    /// The latest run of all.
    pub latest: Option<Run>,
    /// The latest runs in which something was due.
    pub runs: Vec<Run>,
    pub idle_runs: Vec<IdleRuns>,
    /// Losses found by the runs since then.
    pub losses: Losses,
}

/// Looks at the tables; shows at most `limit` runs, and losses since `since`. Takes no locks.
pub async fn status(store: &Store, limit: i64, since: DateTime<Utc>) -> Result<StatusRows, Error> {
    let look = |mut transaction: Transaction| async move {
        Ok(StatusRows {
            overview: queue::overview(&mut transaction).await?,
            held: queue::count_held(&mut transaction).await?,
            dropped: rejects::dropped(&mut transaction).await?,
            coverage: coverage(&mut transaction).await?,
            latest: runs::newest(&mut transaction, 1).await?.pop(),
            runs: runs::busy(&mut transaction, limit).await?,
            idle_runs: runs::idle(&mut transaction, limit).await?,
            losses: runs::losses_since(&mut transaction, since).await?,
        })
    };
    store.read("overview", look).await
}

/// Counts orders by coverage, the most frequent first. Reads the whole table.
async fn coverage(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, Error> {
    let rows = sqlx::query!(
        r#"-- coverage
           SELECT coverage, count(*) AS "orders!" FROM chat.orders GROUP BY coverage ORDER BY 2 DESC, 1"#
    );
    Ok(rows.fetch_all(connection).await?.into_iter().map(|row| (row.coverage, row.orders)).collect())
}
