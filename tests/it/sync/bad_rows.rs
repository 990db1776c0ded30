//! Rows of the queue that were written by SQL and cannot be used: their orders are given up, all others are read.

use std::sync::Arc;

use super::{feed, simulated};
use crate::support::http::Recorder;
use crate::support::{Finished, Lab, tests};

tests!(times_beyond_the_calendar_stop_nobody, ids_that_cannot_be_sent_stop_nobody);

const BAD: &str =
    "SELECT string_agg(order_id || ' ' || state || ' ' || coalesce(last_error_kind, 'fine'), ', ' ORDER BY order_id)
                   FROM sync.order_queue WHERE order_id LIKE 'bad-%'";

async fn times_beyond_the_calendar_stop_nobody(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 3).await?;
    sqlx::raw_sql(
        "INSERT INTO sync.order_queue (order_id, completed_at) VALUES ('bad-1', '294276-12-31 23:59:59Z');
         INSERT INTO sync.order_queue (order_id, completed_at, priority) VALUES ('bad-2', '262143-01-01Z', 32767);
         INSERT INTO sync.order_queue (order_id, enqueued_at) VALUES ('bad-3', '270000-01-01Z');
         INSERT INTO sync.order_queue (order_id, last_fetched_at) VALUES ('bad-4', 'infinity');
         INSERT INTO sync.order_queue (order_id, last_changed_at) VALUES ('bad-5', '-infinity');
         INSERT INTO sync.order_queue (order_id, last_fetched_at) VALUES ('bad-6', '-infinity');
         INSERT INTO sync.order_queue (order_id, due_at) VALUES ('later', '294276-12-31 23:59:59Z');
         INSERT INTO sync.order_queue (order_id, completed_at, priority) VALUES ('early', '4713-01-01Z BC', -32768);
         INSERT INTO sync.order_queue (order_id, completed_at) VALUES ('late', '261999-01-01Z')",
    )
    .execute(&lab.pool)
    .await?;
    let looks = async || -> anyhow::Result<()> {
        for arguments in [&["status"][..], &["plan"], &["plan", "--limit", "2"], &["why", "bad-1"], &["why", "later"]] {
            Finished::of(lab.with_database(arguments)).await?.expect_code(0);
        }
        Ok(())
    };
    looks().await?;
    let api = Recorder::start(simulated).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    let run = report.run;
    assert_eq!((run.status.as_str(), run.dead, run.fetched + run.closed, run.claimed), ("partial", 6, 5, 11));
    let bad = (1..=6).map(|n| format!("bad-{n} dead bad_row")).collect::<Vec<_>>().join(", ");
    assert_eq!(lab.text(BAD).await?, Some(bad));
    assert_eq!(
        lab.count("SELECT count(*) FROM sync.order_queue WHERE last_error LIKE 'a time of its row %'").await?,
        6
    );
    looks().await?;

    // Corrected, it is read.
    sqlx::query("UPDATE sync.order_queue SET completed_at = now() WHERE order_id = 'bad-1'").execute(&lab.pool).await?;
    Finished::of(lab.with_database(&["retry", "--order", "bad-1"])).await?.expect_code(0);
    assert_eq!(lab.sync(api.url(), &[]).await?.run.dead, 0);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE order_id = 'bad-1'").await?, 1);
    Ok(())
}

async fn ids_that_cannot_be_sent_stop_nobody(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Someone has taken the constraints away.
    sqlx::raw_sql(
        "ALTER TABLE sync.order_queue DROP CONSTRAINT order_id_fits_a_path_segment, DROP CONSTRAINT retailer_id_fits_a_header;
         INSERT INTO sync.order_queue (order_id)
         VALUES ('good'), (E'bad-1\\n'), ('..'), ('.'), ('bad-2' || repeat('x', 600));
         INSERT INTO sync.order_queue (order_id, retailer_id) VALUES ('bad-3', 'Café'), ('bad-4', E'a\\nb');
         INSERT INTO sync.order_queue (order_id, connect_user_id) VALUES ('user', E'line\\r\\nbreak')",
    )
    .execute(&lab.pool)
    .await?;
    let api = Recorder::start(simulated).await;
    let run = lab.sync(api.url(), &[]).await?.run;
    assert_eq!((run.status.as_str(), run.dead, run.fetched + run.closed), ("partial", 6, 2));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE last_error_kind = 'bad_row'").await?, 6);
    assert_eq!(api.chat_requests().len(), 2);
    Ok(())
}
