//! `rejects.keep` and `rejects.max_bytes`: what is dropped from `sync.rejects`, when, and that it is counted.

use std::sync::Arc;

use chatsync::db::rejects::{self, Dropped};

use super::{execute, feed, simulated};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};

tests!(
    old_rejects_are_dropped_after_a_run_and_counted,
    the_oldest_go_first_when_they_are_too_much,
    a_flood_within_a_run_does_not_wait_for_its_end,
    without_limits_nothing_is_dropped,
    a_run_that_fails_drops_as_well,
    a_locked_reject_delays_nothing,
);

async fn old_rejects_are_dropped_after_a_run_and_counted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    lab.sync(api.url(), &[]).await?;
    assert_eq!(rejects::dropped(&mut *lab.pool.acquire().await?).await?, []);
    // More than one statement can drop.
    kept_rejects(&lab, 2_500, "interval '31 days'").await?;
    kept_rejects(&lab, 3, "interval '29 days'").await?;
    lab.sync(api.url(), &[]).await?;
    assert_eq!(left(&lab).await?, (3, 2_501));
    let dropped = rejects::dropped(&mut *lab.pool.acquire().await?).await?;
    let [Dropped { reason, rejects: 2_500, kept_bytes: 1_000_000, .. }] = &dropped[..] else { panic!("{dropped:?}") };
    assert_eq!(reason, "keep");
    lab.sync(api.url(), &[("rejects.keep", "7d")]).await?;
    assert_eq!(rejects::dropped(&mut *lab.pool.acquire().await?).await?[0].rejects, 2_503);
    assert_eq!(left(&lab).await?.0, 0);
    Ok(())
}

async fn the_oldest_go_first_when_they_are_too_much(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    kept_rejects(&lab, 5_000, "interval '1 hour'").await?;
    // Each counts for 400 bytes: exactly 1000 of them fit.
    lab.sync(api.url(), &[("rejects.max_bytes", "400000")]).await?;
    assert_eq!(left(&lab).await?, (1_000, 4_001));
    lab.sync(api.url(), &[("rejects.max_bytes", "399999")]).await?;
    assert_eq!(left(&lab).await?, (999, 4_002));
    // Some are too old, others too many.
    kept_rejects(&lab, 10, "interval '1 hour'").await?;
    execute(&lab, "UPDATE sync.rejects SET received_at = now() - interval '40 days' WHERE reject_id <= 4100").await?;
    lab.sync(api.url(), &[("rejects.max_bytes", "400000")]).await?;
    assert_eq!(left(&lab).await?, (910, 4_101));
    let dropped = rejects::dropped(&mut *lab.pool.acquire().await?).await?;
    let counts: Vec<_> = dropped.iter().map(|dropped| (dropped.reason.as_str(), dropped.rejects)).collect();
    assert_eq!(counts, [("keep", 90), ("max_bytes", 4_010)]);
    // One that is larger than the limit is dropped as well.
    lab.sync(api.url(), &[("rejects.max_bytes", "1")]).await?;
    assert_eq!(left(&lab).await?.0, 0);
    Ok(())
}

async fn a_flood_within_a_run_does_not_wait_for_its_end(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 3_000).await?;
    // Most orders are good, so that this is no outage. Ten pages fit.
    let page = format!("<html>{}</html>", "x".repeat(20_000));
    let api = Recorder::start(move |asked| {
        if asked.target.contains("3/messages") || asked.target.contains("7/messages") {
            Answer::new(200, page.clone())
        } else {
            simulated(asked)
        }
    })
    .await;
    // Records the largest number of rejects.
    sqlx::raw_sql(
        "CREATE TABLE most (bytes bigint);
         CREATE FUNCTION note_most() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO most SELECT sum(kept_bytes) FROM sync.rejects; RETURN NULL; END $$;
         CREATE TRIGGER note_most AFTER INSERT ON sync.rejects EXECUTE FUNCTION note_most()",
    )
    .execute(&lab.pool)
    .await?;
    let settings = [("rejects.max_bytes", "210000"), ("guard.max_suspicious_share", "1")];
    let run = lab.sync(api.url(), &settings).await?.run;
    assert_eq!((run.status.as_str(), run.counters.failed), ("partial", 600));
    let most = lab.count("SELECT max(bytes)::bigint FROM most").await?;
    assert!(most < 600 * 20_000 / 2, "{most} bytes at once");
    assert!(lab.count("SELECT sum(kept_bytes) FROM sync.rejects").await? <= 210_000);
    assert_eq!(left(&lab).await?.0, 10);
    assert_eq!(rejects::dropped(&mut *lab.pool.acquire().await?).await?[0].rejects, 590);
    Ok(())
}

async fn without_limits_nothing_is_dropped(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    kept_rejects(&lab, 100, "interval '9 years'").await?;
    lab.sync(api.url(), &[("rejects.max_bytes", "0"), ("rejects.keep", "0s")]).await?;
    assert_eq!(left(&lab).await?, (100, 1));
    Ok(())
}

async fn a_run_that_fails_drops_as_well(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| Answer::new(401, "")).await;
    feed(&lab, 1).await?;
    kept_rejects(&lab, 100, "interval '31 days'").await?;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!(report.run.status.as_str(), "failed");
    assert_eq!(left(&lab).await?.0, 0);
    Ok(())
}

async fn a_locked_reject_delays_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    kept_rejects(&lab, 1_100, "interval '31 days'").await?;
    let mut elsewhere = lab.pool.begin().await?;
    sqlx::query("SELECT FROM sync.rejects WHERE reject_id = 5 FOR UPDATE").execute(&mut *elsewhere).await?;
    assert_eq!(lab.sync(api.url(), &[]).await?.run.status.as_str(), "succeeded");
    assert_eq!(left(&lab).await?, (1, 5));
    elsewhere.rollback().await?;
    Ok(())
}

/// Adds rejects that count for 400 bytes each.
async fn kept_rejects(lab: &Lab, count: i32, age: &str) -> anyhow::Result<()> {
    let insert = format!(
        "INSERT INTO sync.rejects (order_id, run_id, received_at, http_status, kind, json_path, reason, body, body_bytes)
         SELECT 'order', gen_random_uuid(), now() - {age}, 200, 'not_understood', '$', 'not JSON', repeat('x', 100), 100
         FROM generate_series(1, {count})"
    );
    sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&lab.pool).await?;
    Ok(())
}

/// How many are left, and the oldest of them.
async fn left(lab: &Lab) -> anyhow::Result<(i64, i64)> {
    let left = "SELECT count(*), coalesce(min(reject_id), 0) FROM sync.rejects";
    Ok(sqlx::query_as(left).fetch_one(&lab.pool).await?)
}
