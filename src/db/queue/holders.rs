//! Sessions that lock orders, which a claim skips.

use crate::db::{Error, Store, Transaction};

/// Returns other sessions that may have locked rows of the queue: they wrote or locked some in a transaction that has
/// not ended. `None` if there are none. Takes no locks.
pub async fn holders_of_orders(store: &Store) -> Result<Option<String>, Error> {
    let look = |mut transaction: Transaction| async move {
        let holders = sqlx::query_scalar!(
            r#"-- holders_of_orders
           SELECT string_agg(DISTINCT 'pid ' || pid || coalesce(' (' || nullif(application_name, '') || ')', ''), ', ')
           FROM pg_locks JOIN pg_stat_activity USING (pid)
           WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND relation = 'sync.order_queue'::regclass
             AND granted
             AND mode <> 'AccessShareLock'
             AND application_name <> current_setting('application_name')"#
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(holders)
    };
    store.run("holders_of_orders", look).await
}
