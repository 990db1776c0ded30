//! Queue rows written by SQL that cannot be used: their orders become dead, all others are fetched.

use std::sync::Arc;

use anyhow::Context as _;
use sqlx::AssertSqlSafe;

use super::{feed, simulated};
use crate::support::http::Recorder;
use crate::support::{Finished, Lab, tests};

tests!(
    times_beyond_the_calendar_stop_no_other_order,
    ids_that_cannot_be_sent_stop_no_other_order,
    no_infinite_time_of_any_table_stops_a_command,
    no_time_before_all_others_of_any_table_stops_a_command,
    no_time_after_the_calendar_of_any_table_stops_a_command,
);

const BAD: &str =
    "SELECT string_agg(order_id || ' ' || state || ' ' || coalesce(last_error_kind, 'fine'), ', ' ORDER BY order_id)
                   FROM sync.order_queue WHERE order_id LIKE 'bad-%'";

async fn times_beyond_the_calendar_stop_no_other_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 3).await?;
    sqlx::raw_sql(
        "INSERT INTO sync.order_queue (order_id, completed_at) VALUES ('bad-1', '294276-12-31 23:59:59Z');
         INSERT INTO sync.order_queue (order_id, completed_at, priority) VALUES ('bad-2', '262143-01-01Z', 32767);
         INSERT INTO sync.order_queue (order_id, enqueued_at) VALUES ('bad-3', '270000-01-01Z');
         INSERT INTO sync.order_queue (order_id, last_fetched_at) VALUES ('bad-4', 'infinity');
         INSERT INTO sync.order_queue (order_id, last_changed_at) VALUES ('bad-5', '-infinity');
         INSERT INTO sync.order_queue (order_id, last_fetched_at) VALUES ('bad-6', '-infinity');
         INSERT INTO sync.order_queue (order_id, retailer_id) VALUES ('bad-7', repeat('r', 300000));
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
    assert_eq!(
        (run.status.as_str(), run.counters.dead, run.counters.fetched + run.counters.closed, run.counters.claimed),
        ("partial", 7, 5, 12)
    );
    let bad = (1..=7).map(|n| format!("bad-{n} dead bad_row")).collect::<Vec<_>>().join(", ");
    assert_eq!(lab.text(BAD).await?, Some(bad));
    assert_eq!(
        lab.count("SELECT count(*) FROM sync.order_queue WHERE last_error LIKE 'a time of its row %'").await?,
        6
    );
    looks().await?;

    // Corrected, it is read.
    sqlx::query("UPDATE sync.order_queue SET completed_at = now() WHERE order_id = 'bad-1'").execute(&lab.pool).await?;
    Finished::of(lab.with_database(&["retry", "--order", "bad-1"])).await?.expect_code(0);
    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.dead, 0);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE order_id = 'bad-1'").await?, 1);
    Ok(())
}

async fn ids_that_cannot_be_sent_stop_no_other_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    // The constraints were dropped by hand.
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
    assert_eq!((run.status.as_str(), run.counters.dead, run.counters.fetched + run.counters.closed), ("partial", 6, 2));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE last_error_kind = 'bad_row'").await?, 6);
    assert_eq!(api.chat_requests().len(), 2);
    Ok(())
}

async fn no_infinite_time_of_any_table_stops_a_command(lab: Arc<Lab>) -> anyhow::Result<()> {
    no_time_stops_a_command(&lab, "infinity").await
}

async fn no_time_before_all_others_of_any_table_stops_a_command(lab: Arc<Lab>) -> anyhow::Result<()> {
    no_time_stops_a_command(&lab, "-infinity").await
}

async fn no_time_after_the_calendar_of_any_table_stops_a_command(lab: Arc<Lab>) -> anyhow::Result<()> {
    no_time_stops_a_command(&lab, "290000-01-01Z").await
}

/// Every time in the tables: columns, and the fields of the attempts in the history.
const PLACES: &str = "
    SELECT format('%I.%I', table_schema, table_name), format('%I', column_name)
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema IN ('sync', 'chat') AND table_type = 'BASE TABLE'
      AND data_type = 'timestamp with time zone' AND is_generated = 'NEVER'
    UNION ALL
    SELECT 'sync.order_queue', format('history[1].%I', attribute_name)
    FROM information_schema.attributes
    WHERE udt_schema = 'sync' AND udt_name = 'attempt' AND data_type = 'timestamp with time zone'";

/// A row in every table. $api stands for the address of the API.
const ROWS: &str = "
    TRUNCATE sync.order_queue, sync.runs, sync.pace, sync.evidence, sync.rejects, sync.rejects_dropped,
             chat.orders, chat.messages, chat.users, chat.participants;
    INSERT INTO sync.order_queue (order_id, state, last_fetched_at, last_changed_at, history)
    VALUES ('order-1', 'open', now(), now(), ARRAY[ROW (now(), now(), 1, 1, 200, 'unchanged')::sync.attempt]),
           ('order-2', 'pending', NULL, NULL, ARRAY[ROW (now(), now(), 1, 1, 500, 'server_error')::sync.attempt]);
    INSERT INTO sync.runs (run_id, trigger, worker, started_at, finished_at, alive_until, status, claimed, api)
    VALUES (gen_random_uuid(), 'manual', 'a', now() - interval '4 h', now(), now(), 'succeeded', 0, '$api'),
           (gen_random_uuid(), 'manual', 'b', now() - interval '3 h', now(), now(), 'partial', 2, '$api'),
           (gen_random_uuid(), 'manual', 'c', now() - interval '2 h', NULL, now(), 'running', 1, '$api');
    INSERT INTO sync.pace (api, requests_per_second, is_limit) VALUES ('$api', 1000, true);
    INSERT INTO sync.evidence (id_space, hour, last_good_at) VALUES ('another', now(), now());
    INSERT INTO sync.rejects (order_id, run_id, received_at, kind, json_path, reason, body, body_bytes)
    VALUES ('order-1', gen_random_uuid(), now(), 'not_understood', '$', 'expected an object', '', 0);
    INSERT INTO sync.rejects_dropped (reason, rejects, kept_bytes, last_dropped_at) VALUES ('keep', 1, 1, now());
    INSERT INTO chat.orders (order_id, status, coverage, message_count) VALUES ('order-1', 'open', 'captured_open', 1);
    INSERT INTO chat.messages (order_id, message_id, position, created_at) VALUES ('order-1', 1, 0, now());
    INSERT INTO chat.users (user_type, user_id, observed_at) VALUES ('user', 1, now());
    INSERT INTO chat.participants (order_id, user_type, user_id, role) VALUES ('order-1', 'user', 1, 'customer')";

/// Sets every time of the tables in turn, as a person might. Every command must still succeed.
async fn no_time_stops_a_command(lab: &Lab, time: &str) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    // As it is in sync.pace and sync.runs.
    let rows = ROWS.replace("$api", lab.settings(api.url(), &[]).api.base_url.as_str());
    let places: Vec<(String, String)> = sqlx::query_as(PLACES).fetch_all(&lab.pool).await?;
    for (table, column) in places.into_iter().filter(|(table, _)| table != "sync.migrations") {
        let place = format!("{table}.{column}");
        sqlx::raw_sql(AssertSqlSafe(&*rows)).execute(&lab.pool).await?;
        let set = format!("UPDATE {table} SET {column} = '{time}'");
        match sqlx::raw_sql(AssertSqlSafe(set)).execute(&lab.pool).await {
            Ok(set) => assert!(set.rows_affected() > 0, "{table} has no row in this test"),
            // A constraint keeps the time out.
            Err(sqlx::Error::Database(error)) if error.is_check_violation() => continue,
            Err(error) => return Err(error).context(place),
        }
        let look = async |arguments: &[&str]| -> anyhow::Result<()> {
            let finished = Finished::of(lab.configured(arguments, api.url(), &[])).await?;
            assert_eq!(finished.code, Some(0), "{arguments:?} with {place}: {}", finished.stderr);
            assert!(!finished.stdout.contains("not counted"), "{arguments:?} with {place}: {}", finished.stdout);
            Ok(())
        };
        tokio::try_join!(
            look(&["status"]),
            look(&["status", "--json"]),
            look(&["why", "order-1"]),
            look(&["plan"]),
            look(&["plan", "--limit", "1"]),
        )?;
        let report = lab.sync(api.url(), &[]).await.with_context(|| format!("sync with {place}"))?;
        assert!(report.failure.is_none(), "sync with {place}: {:?}", report.failure);
        look(&["status"]).await?;
        look(&["why", "order-1"]).await?;
    }
    Ok(())
}
