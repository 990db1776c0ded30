//! `chatsync enqueue`: formats, sources, bad lines and bad files.

use std::sync::Arc;

use super::{assert_hides, write_file};
use crate::support::{Finished, Lab, tests};

tests!(
    plain_lines_of_a_file_are_added_and_bad_ones_named,
    the_same_file_again_adds_nothing_and_ends_the_same_way,
    csv_columns_reach_the_queue,
    ndjson_fields_reach_the_queue,
    standard_input_is_read_with_and_without_a_dash,
    a_repeated_order_counts_as_known,
    bad_lines_are_not_quoted,
    a_missing_file_is_named,
    a_bad_header_is_explained_before_anything_is_added,
    a_file_without_orders_is_no_error,
);

const PLAIN: &str = "first\n\n..\nsecond/with-slash\nthird\tbroken\n  third  \n";

async fn plain_lines_of_a_file_are_added_and_bad_ones_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let path = write_file(&lab, "orders.txt", PLAIN)?;
    let finished = Finished::of(lab.with_database(&["enqueue", &path])).await?.expect_code(3);
    assert_eq!(finished.stdout, "3 added, 0 updated, 0 already known, 2 rejected\n");
    let complaints: Vec<&str> = complaints(&finished);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].starts_with("line 3: bad order id: "), "{complaints:?}");
    assert!(complaints[1].starts_with("line 5: bad order id: "), "{complaints:?}");
    assert_eq!(order_ids(&lab).await?, ["first", "second/with-slash", "third"]);
    let sources = lab.text("SELECT string_agg(DISTINCT source, ',') FROM sync.order_queue").await?;
    assert_eq!(sources.as_deref(), Some(&*path));
    Ok(())
}

async fn the_same_file_again_adds_nothing_and_ends_the_same_way(lab: Arc<Lab>) -> anyhow::Result<()> {
    let bad = write_file(&lab, "bad.txt", PLAIN)?;
    let good = write_file(&lab, "good.txt", "first\nfourth\n")?;
    for (file, code, first, again) in [
        (
            &bad,
            3,
            "3 added, 0 updated, 0 already known, 2 rejected\n",
            "0 added, 0 updated, 3 already known, 2 rejected\n",
        ),
        (
            &good,
            0,
            "1 added, 0 updated, 1 already known, 0 rejected\n",
            "0 added, 0 updated, 2 already known, 0 rejected\n",
        ),
    ] {
        let finished = Finished::of(lab.with_database(&["enqueue", file])).await?.expect_code(code);
        assert_eq!(finished.stdout, first);
        let before = lab.dump("sync").await?;
        let finished = Finished::of(lab.with_database(&["enqueue", file])).await?.expect_code(code);
        assert_eq!(finished.stdout, again);
        assert_eq!(lab.dump("sync").await?, before);
    }
    Ok(())
}

async fn csv_columns_reach_the_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    let csv = "\u{feff}completed_at,order_id,priority,connect_user_id,retailer_id,ids_internal\r\n\
               2026-01-31T18:00:00Z,\"a,\"\"b\"\"\",7,user-1,banner,true\r\n\
               ,second,,,,\r\n\
               yesterday,third,,,,\r\n\
               ,fourth\r\n";
    let finished = Finished::of_input(lab.with_database(&["enqueue"]), csv.as_bytes()).await?.expect_code(3);
    assert_eq!(finished.stdout, "2 added, 0 updated, 0 already known, 2 rejected\n");
    assert_eq!(
        complaints(&finished),
        [
            "line 4: bad completed_at: write a time with its zone, such as 2026-01-31T18:00:00Z",
            "line 5: it has 2 fields, the header has 6"
        ]
    );
    assert_eq!(rows(&lab).await?, ["a,\"b\"|user-1|2026-01-31 18:00:00|banner|t|7", "second|||||0"]);
    Ok(())
}

async fn ndjson_fields_reach_the_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    let json = r#"{"order_id":"a","connect_user_id":"user-1","completed_at":"2026-01-31T18:00:00Z","retailer_id":"banner","ids_internal":true,"priority":7}
{"order_id":"second"}
{"order_id":3.5}
{"order":"fourth"}
nonsense
"#;
    let finished = Finished::of_input(lab.with_database(&["enqueue"]), json.as_bytes()).await?.expect_code(3);
    assert_eq!(finished.stdout, "2 added, 0 updated, 0 already known, 3 rejected\n");
    let named: Vec<&str> = complaints(&finished).into_iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(named, ["line 3", "line 4", "line 5"]);
    assert_eq!(rows(&lab).await?, ["a|user-1|2026-01-31 18:00:00|banner|t|7", "second|||||0"]);
    Ok(())
}

async fn standard_input_is_read_with_and_without_a_dash(lab: Arc<Lab>) -> anyhow::Result<()> {
    Finished::of_input(lab.with_database(&["enqueue"]), b"without").await?.expect_code(0);
    Finished::of_input(lab.with_database(&["enqueue", "-"]), b"with").await?.expect_code(0);
    assert_eq!(order_ids(&lab).await?, ["with", "without"]);
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE source = 'stdin'").await?, 2);
    Ok(())
}

async fn a_repeated_order_counts_as_known(lab: Arc<Lab>) -> anyhow::Result<()> {
    let finished = Finished::of_input(lab.with_database(&["enqueue"]), b"a\nb\na\n").await?.expect_code(0);
    assert_eq!(finished.stdout, "2 added, 0 updated, 1 already known, 0 rejected\n");
    Ok(())
}

/// A wrong file may contain anything, even passwords.
async fn bad_lines_are_not_quoted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let secret = "hunter2";
    let csv = format!("order_id,priority\nsecond,{secret}\n{secret},1,{secret}\n");
    let json = format!(
        "{{\"order_id\":\"a\"}}\n{{\"{secret}\":\"{secret}\"}}\n{{\"order_id\":\"b\",\"priority\":\"{secret}\"}}\n{secret}\n"
    );
    let plain = format!("a\nb\n{secret}\t{secret}\n");
    for input in [csv, json, plain] {
        let command = lab.with_database(&["enqueue"]);
        let finished = Finished::of_input(command, input.as_bytes()).await?.expect_code(3);
        assert_hides(&finished.stderr, [secret]);
    }
    Ok(())
}

async fn a_missing_file_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let finished = Finished::of(lab.with_database(&["enqueue", "no/such/orders.csv"])).await?.expect_code(1);
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.contains("cannot open no/such/orders.csv: No such file"), "{}", finished.stderr);
    Ok(())
}

async fn a_bad_header_is_explained_before_anything_is_added(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (header, problem) in [
        ("order_id,colour", "line 1 has a column that is not known, number 2: leave it out; known columns: order_id, "),
        ("order_id,priority,order_id", "line 1 has a column that was named before, number 3: leave it out; known"),
    ] {
        let input = format!("{header}\na,b,c\n");
        let finished = Finished::of_input(lab.with_database(&["enqueue"]), input.as_bytes()).await?.expect_code(2);
        assert!(finished.stderr.contains(problem), "{}", finished.stderr);
        assert_eq!(order_ids(&lab).await?, [""; 0]);
    }
    Ok(())
}

async fn a_file_without_orders_is_no_error(lab: Arc<Lab>) -> anyhow::Result<()> {
    for input in ["", "\n\n", "order_id,connect_user_id\n"] {
        let finished = Finished::of_input(lab.with_database(&["enqueue"]), input.as_bytes()).await?.expect_code(0);
        assert_eq!(finished.stdout, "0 added, 0 updated, 0 already known, 0 rejected\n");
    }
    Ok(())
}

/// The lines of standard error about lines of the file.
fn complaints(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter(|line| line.starts_with("line ")).collect()
}

async fn order_ids(lab: &Lab) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar("SELECT order_id FROM sync.order_queue ORDER BY 1").fetch_all(&lab.pool).await?)
}

/// The facts of a feeder, as stored in the queue.
async fn rows(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let query =
        "SELECT concat(order_id, '|', connect_user_id, '|', completed_at AT TIME ZONE 'UTC', '|', retailer_id, '|',
                               ids_internal, '|', priority)
                 FROM sync.order_queue ORDER BY order_id";
    Ok(sqlx::query_scalar(query).fetch_all(&lab.pool).await?)
}
