//! Finds the sessions that block chatsync.

use sqlx::PgConnection;

use super::Error;

/// Returns the sessions that block sessions of chatsync, such as `pid 4711 (psql)`; `None` if none is blocked. Behind a
/// pooler these are sessions of the pooler, under the names of its clients. Takes no locks.
pub(super) async fn holders(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    let holders = sqlx::query_scalar!(
        r#"-- holders
           SELECT string_agg(DISTINCT
                   CASE WHEN blocker.pid = 0 THEN 'a prepared transaction (pg_prepared_xacts)'
                        WHEN coalesce(holder.wait_event, waiting.wait_event) = 'SyncRep'
                        THEN 'a commit that waits for a standby (synchronous_standby_names)'
                        ELSE 'pid ' || blocker.pid || coalesce(' (' || nullif(holder.application_name, '') || ')', '')
                   END, ', ') AS holders
           FROM pg_stat_activity AS waiting
           LEFT JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocker (pid) ON true
           LEFT JOIN pg_stat_activity AS holder ON holder.pid = blocker.pid
           WHERE waiting.datname = current_database()
             AND waiting.usename = current_user
             AND waiting.application_name = current_setting('application_name')
             AND (waiting.wait_event_type = 'Lock' AND blocker.pid IS NOT NULL OR waiting.wait_event = 'SyncRep')
             -- A blocked session of chatsync reports its own blocker.
             AND (holder.wait_event_type = 'Lock' AND holder.application_name = waiting.application_name) IS NOT TRUE"#
    )
    .fetch_one(connection)
    .await?;
    Ok(holders)
}
