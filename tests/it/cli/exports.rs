//! `chatsync enqueue`: files as databases and spreadsheets export them, and files that are no lists of orders.

use std::sync::Arc;

use nix::sys::signal::Signal;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::send;
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Finished, Lab, eventually, tests};

tests!(
    what_is_no_list_of_orders_is_refused_before_anything_is_added,
    what_exporters_write_reaches_the_queue,
    lines_of_one_order_complete_each_other_wherever_they_stand,
    a_gap_filled_by_this_feed_is_filled_by_its_last_line,
    against_the_queue_only_gaps_are_filled_but_the_end_is_corrected,
    a_dead_order_without_a_user_is_due_again_with_one,
    orders_that_cannot_be_read_as_fed_are_warned_of_at_once,
    an_order_that_the_database_refuses_keeps_no_other_out,
    an_order_that_a_trigger_drops_is_named,
    an_order_that_a_trigger_changes_is_named,
    the_default_user_is_checked_like_the_column,
    a_signal_ends_the_wait_for_an_unopened_pipe,
    a_lost_connection_costs_no_line,
    giving_up_says_which_lines_are_in_the_queue,
);

async fn what_is_no_list_of_orders_is_refused_before_anything_is_added(lab: Arc<Lab>) -> anyhow::Result<()> {
    // 70,000 good lines are more than what is inspected; the title comes first.
    let late = "Orders of May\norder_id,connect_user_id\n".to_owned() + &"A-1,user-1\n".repeat(7_000);
    for feed in [
        b"PK\x03\x04\x14\0\x06\0".as_slice(),
        b"PAR1\x15\x04\x15",
        b"{\n  \"order_id\": \"A-1\"\n}\n",
        b" order_id | connect_user_id \n----------+---\n A-1 | u\n(1 row)\n",
        b"\"A-1\"\n\"A-2\"\n",
        b"A-1,user-1\nA-2,user-2\n",
        b"id;user_id\nA-1;user-1\n",
        b"<html><body>502 Bad Gateway</body></html>\n",
        late.as_bytes(),
    ] {
        let refused = Finished::of_input(lab.with_database(&["enqueue"]), feed).await?.expect_code(2);
        assert_eq!((refused.stdout.as_str(), refused.stderr.lines().count()), ("", 1), "{}", refused.stderr);
        assert!(refused.stderr.starts_with("error: this is no list of orders: "), "{}", refused.stderr);
        // This needs no database.
        let mut command = lab.command(&["enqueue"]);
        command.env("DATABASE_URL", "postgres://127.0.0.1:1/nothing");
        let again = Finished::of_input(command, feed).await?.expect_code(2);
        assert_eq!(again.stderr, refused.stderr);
    }
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue").await?, 0);
    Ok(())
}

async fn what_exporters_write_reaches_the_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    let utf16: Vec<u8> =
        "\u{feff}Order ID;Connect User ID\r\nexcel;u\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for feed in [
        b"order_id,connect_user_id,completed_at,ids_internal,retailer_id\npostgres,u,2026-01-31 18:00:00+00,t,\n".as_slice(),
        b"order_id\tconnect_user_id\tcompleted_at\nmysql\tu\tNULL\n",
        b"order_id,connect_user_id,completed_at\nbigquery,u,2026-01-31 18:00:00 UTC\nsnowflake,u,2026-01-31 18:00:00.000 +0000\n",
        b"[\n {\"order_id\": \"json\", \"connectUserId\": \"u\", \"completed_at\": null}\n]\n",
        &utf16,
    ] {
        Finished::of_input(lab.with_database(&["enqueue"]), feed).await?.expect_code(0);
    }
    let facts = "concat_ws(' ', connect_user_id, completed_at AT TIME ZONE 'UTC', ids_internal)";
    assert_eq!(
        queue(&lab, facts).await?,
        [
            "bigquery u 2026-01-31 18:00:00",
            "excel u",
            "json u",
            "mysql u",
            "postgres u 2026-01-31 18:00:00 t",
            "snowflake u 2026-01-31 18:00:00"
        ]
    );
    Ok(())
}

async fn lines_of_one_order_complete_each_other_wherever_they_stand(lab: Arc<Lab>) -> anyhow::Result<()> {
    let far = "filler,,,\n".repeat(6_000);
    for (name, between) in [("near", ""), ("far", far.as_str())] {
        let csv = format!(
            "order_id,connect_user_id,completed_at,priority\n\
             {name}-1,,,\n{name}-2,early,2026-01-31T18:00:00Z,3\n{name}-3,own,,\n{between}\
             {name}-1,late,2026-01-31T19:00:00Z,7\n{name}-2,late,,\n{name}-3,,2026-01-31T20:00:00Z,\n"
        );
        let command = lab.with_database(&["enqueue", "--user-id", "default", "--priority", "1"]);
        Finished::of_input(command, csv.as_bytes()).await?.expect_code(0);
        let facts = "concat_ws(' ', connect_user_id, to_char(completed_at AT TIME ZONE 'UTC', 'HH24'), priority)";
        let rows = queue(&lab, facts).await?;
        let of =
            |order: &str| rows.iter().find_map(|row| row.strip_prefix(&format!("{name}-{order} "))).map(str::to_owned);
        assert_eq!(of("1").as_deref(), Some("late 19 7"), "{name}");
        assert_eq!(of("2").as_deref(), Some("late 18 3"), "{name}");
        assert_eq!(of("3").as_deref(), Some("own 20 1"), "{name}");
    }
    Ok(())
}

async fn a_gap_filled_by_this_feed_is_filled_by_its_last_line(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, connect_user_id, priority)
         VALUES ('gap', NULL, 7), ('default', NULL, 7), ('known', 'old', 7)",
    )
    .execute(&lab.pool)
    .await?;
    let far = "filler,,\n".repeat(6_000);
    let csv = format!(
        "order_id,connect_user_id,priority\ngap,first,\ndefault,,\nknown,first,\n{far}gap,last,\ndefault,last,3\nknown,last,3\n"
    );
    let command = lab.with_database(&["enqueue", "--user-id", "dd"]);
    Finished::of_input(command, csv.as_bytes()).await?.expect_code(0);
    let facts = "concat_ws(' ', connect_user_id, priority)";
    assert_eq!(queue(&lab, facts).await?, ["default last 7", "filler dd 0", "gap last 7", "known old 7"]);
    // Reopened without a priority, it keeps its old one.
    let command = lab.with_database(&["enqueue", "--reopen"]);
    Finished::of_input(command, b"known\n").await?.expect_code(0);
    assert_eq!(queue(&lab, facts).await?[3], "known old 7");
    Ok(())
}

async fn against_the_queue_only_gaps_are_filled_but_the_end_is_corrected(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, connect_user_id, retailer_id, ids_internal, priority, completed_at)
         VALUES ('full', 'old', 'old', false, 5, '2026-01-31 18:00+00'), ('empty', NULL, NULL, NULL, 5, NULL)",
    )
    .execute(&lab.pool)
    .await?;
    let csv = "order_id,connect_user_id,retailer_id,ids_internal,priority,completed_at\n\
               full,new,new,true,9,2026-01-31 20:00+00\nempty,new,new,true,9,2026-01-31 20:00:00+00\nfull,,,,,2026-01-31 20:00:00+00\n";
    let fed = Finished::of_input(lab.with_database(&["enqueue"]), csv.as_bytes()).await?.expect_code(0);
    assert_eq!(fed.stdout, "0 added, 2 updated, 1 already known, 0 rejected\n");
    let facts = "concat_ws(' ', connect_user_id, retailer_id, ids_internal, priority, to_char(completed_at AT TIME ZONE 'UTC', 'HH24'))";
    assert_eq!(queue(&lab, facts).await?, ["empty new new t 5 20", "full old old f 5 20"]);
    let before = lab.dump("sync").await?;
    let again = Finished::of_input(lab.with_database(&["enqueue"]), csv.as_bytes()).await?.expect_code(0);
    assert_eq!(again.stdout, "0 added, 0 updated, 3 already known, 0 rejected\n");
    assert_eq!(lab.dump("sync").await?, before);
    Ok(())
}

async fn a_dead_order_without_a_user_is_due_again_with_one(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, connect_user_id, state, failures, counted_failures, last_error_kind, due_at)
         VALUES ('userless', NULL, 'dead', 8, 8, 'no_user', now() + interval '1 day'),
                ('waiting', NULL, 'pending', 2, 2, 'no_user', now() + interval '1 day'),
                ('forbidden', NULL, 'dead', 8, 8, 'forbidden', now() + interval '1 day')",
    )
    .execute(&lab.pool)
    .await?;
    let csv = b"order_id,connect_user_id\nuserless,u\nwaiting,u\nforbidden,u\n";
    let fed = Finished::of_input(lab.with_database(&["enqueue"]), csv).await?.expect_code(0);
    assert_eq!(fed.stdout, "0 added, 3 updated, 0 already known, 0 rejected\n");
    let facts = "concat_ws(' ', connect_user_id, state, failures, counted_failures, due_at <= now())";
    assert_eq!(
        queue(&lab, facts).await?,
        ["forbidden u dead 8 8 f", "userless u pending 0 0 t", "waiting u pending 0 0 t"]
    );
    Ok(())
}

async fn orders_that_cannot_be_read_as_fed_are_warned_of_at_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    let csv = b"order_id,connect_user_id\nA-1,u\nA-2,\n1.23457E+15,u\n9.87654E+15,\n";
    let fed = Finished::of_input(lab.with_database(&["enqueue"]), csv).await?.expect_code(0);
    assert_eq!(fed.stdout, "4 added, 0 updated, 0 already known, 0 rejected\n");
    assert!(fed.stderr.contains("warning: 2 orders in the queue have no user"), "{}", fed.stderr);
    let again = Finished::of_input(lab.with_database(&["enqueue"]), b"A-2\n").await?.expect_code(0);
    assert!(again.stderr.contains("warning: 2 orders in the queue have no user"), "{}", again.stderr);
    assert!(fed.stderr.contains("2 ids are in scientific notation, such as 1.23457E+15 on line 4"), "{}", fed.stderr);
    let mut command = lab.with_database(&["enqueue"]);
    command.env("CHATSYNC__AUTH__MODE", "client_credentials");
    let fed = Finished::of_input(command, b"A-3\n").await?.expect_code(0);
    assert_eq!(fed.stderr, "");
    Ok(())
}

async fn an_order_that_the_database_refuses_keeps_no_other_out(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::raw_sql("ALTER TABLE sync.order_queue ADD CONSTRAINT no_tests CHECK (order_id !~ '^TEST')")
        .execute(&lab.pool)
        .await?;
    let csv = b"order_id,connect_user_id\nA-1,u\nA-2,u\nTEST-1,u\nA-3,u\nTEST-2,u\n";
    let fed = Finished::of_input(lab.with_database(&["enqueue"]), csv).await?.expect_code(3);
    assert_eq!(fed.stdout, "3 added, 0 updated, 0 already known, 2 rejected\n");
    assert!(
        fed.stderr.contains("order TEST-1: a statement failed") && fed.stderr.contains("no_tests"),
        "{}",
        fed.stderr
    );
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue").await?, 3);
    Ok(())
}

async fn the_default_user_is_checked_like_the_column(lab: Arc<Lab>) -> anyhow::Result<()> {
    for user in ["line\nbreak", &"x".repeat(600)] {
        let refused = Finished::of_input(lab.with_database(&["enqueue", "--user-id", user]), b"A-1\n").await?;
        let stderr = refused.expect_code(2).stderr;
        assert!(stderr.contains("--user-id"), "{stderr}");
    }
    let command = lab.with_database(&["enqueue", "--user-id", "\u{feff}user-1\u{200b} "]);
    Finished::of_input(command, b"A-1\n").await?.expect_code(0);
    assert_eq!(queue(&lab, "connect_user_id").await?, ["A-1 user-1"]);
    Ok(())
}

async fn a_signal_ends_the_wait_for_an_unopened_pipe(lab: Arc<Lab>) -> anyhow::Result<()> {
    let path = lab.home.path().join("orders");
    assert!(tokio::process::Command::new("mkfifo").arg(&path).status().await?.success());
    let child = lab.with_database(&["enqueue", path.to_str().expect("UTF-8")]).spawn()?;
    let process = child.id().expect("it runs");
    eventually("it listens for signals", async || Ok(catches_sigterm(process).await?.then_some(()))).await?;
    send(&child, Signal::SIGTERM)?;
    let finished = Finished::of_child(child).await?.expect_code(1);
    assert!(finished.stderr.contains("error: stopped by a signal before anything was read"), "{}", finished.stderr);
    Ok(())
}

async fn catches_sigterm(process: u32) -> anyhow::Result<bool> {
    let status = tokio::fs::read_to_string(format!("/proc/{process}/status")).await;
    // Without such a file, a signal that comes too early fails the test.
    let Ok(status) = status else { return Ok(true) };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    Ok(u64::from_str_radix(caught, 16)? & (1 << 14) != 0)
}

async fn a_lost_connection_costs_no_line(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    let mut child =
        lab.command(&["enqueue"]).env("DATABASE_URL", proxy.url()).stdin(std::process::Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(lines(0..20_000).as_bytes()).await?;
    until_added(&lab, 5_000).await?;
    proxy.refuse().await;
    proxy.cut(Ending::Rst);
    let rest = async {
        stdin.write_all(lines(20_000..40_000).as_bytes()).await?;
        drop(stdin);
        anyhow::Ok(())
    };
    let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let outage = async {
        while let Some(line) = log.next_line().await? {
            if line.contains("the database is away") {
                return proxy.resume();
            }
        }
        anyhow::bail!("it was not noticed that the database is away")
    };
    tokio::try_join!(rest, outage)?;
    let finished = Finished::of_child(child).await?.expect_code(0);
    // A batch whose commit got no reply counts as known.
    assert!(finished.stdout.ends_with(" already known, 0 rejected\n"), "{}", finished.stdout);
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue").await?, 40_000);
    Ok(())
}

async fn giving_up_says_which_lines_are_in_the_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    let mut command = lab.command(&["enqueue"]);
    command.env("DATABASE_URL", proxy.url()).env("CHATSYNC__DATABASE__GIVE_UP_AFTER", "100ms");
    let mut child = command.stdin(std::process::Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let head = "order_id\n".to_owned();
    stdin.write_all((head + &lines(0..9_000)).as_bytes()).await?;
    until_added(&lab, 5_000).await?;
    proxy.refuse().await;
    proxy.cut(Ending::Rst);
    stdin.write_all(lines(9_000..12_000).as_bytes()).await?;
    drop(stdin);
    let finished = Finished::of_child(child).await?.expect_code(1);
    let stored = lab.count("SELECT count(*) FROM sync.order_queue").await?;
    let shown = format!("error: {stored} orders, up to line {}, are in the queue; feed the rest again: ", stored + 1);
    assert!(finished.stderr.contains(&shown), "{}", finished.stderr);
    Ok(())
}

fn lines(orders: std::ops::Range<u32>) -> String {
    orders.map(|order| format!("order-{order:05}")).collect::<Vec<_>>().join("\n") + "\n"
}

async fn until_added(lab: &Lab, orders: i64) -> anyhow::Result<()> {
    eventually("orders are added", async || {
        Ok((lab.count("SELECT count(*) FROM sync.order_queue").await? >= orders).then_some(()))
    })
    .await
}

/// An expression over each row of the queue, behind its order id.
async fn queue(lab: &Lab, expression: &str) -> anyhow::Result<Vec<String>> {
    let query = format!("SELECT concat(order_id, ' ', {expression}) FROM sync.order_queue ORDER BY order_id");
    Ok(sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&lab.pool).await?)
}

async fn an_order_that_a_trigger_drops_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    sqlx::raw_sql(
        "CREATE FUNCTION public.filter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE WARNING 'seen: %', new.connect_user_id;
             IF new.order_id LIKE '%7' THEN RETURN NULL; END IF;
             RETURN new;
         END $$;
         CREATE TRIGGER filter BEFORE INSERT ON sync.order_queue FOR EACH ROW EXECUTE FUNCTION public.filter()",
    )
    .execute(&lab.pool)
    .await?;
    for counts in
        ["18 added, 0 updated, 0 already known, 2 rejected\n", "0 added, 0 updated, 18 already known, 2 rejected\n"]
    {
        let lines: Vec<String> = (1..=20).map(|number| format!("A-{number}")).collect();
        let command = lab.with_database(&["enqueue", "--user-id", "user-1"]);
        let finished = Finished::of_input(command, lines.join("\n").as_bytes()).await?.expect_code(3);
        assert_eq!(finished.stdout, counts);
        for order in ["A-7", "A-17"] {
            let line = format!("order {order}: a trigger or rule of the database has dropped or changed it");
            assert!(finished.stderr.contains(&line), "{}", finished.stderr);
        }
        // Notices of the server may quote anything.
        assert!(!finished.stderr.contains("user-1") && !finished.stderr.contains("seen"), "{}", finished.stderr);
    }
    Ok(())
}

async fn an_order_that_a_trigger_changes_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["K-1", "ZZ-1"]).await?;
    sqlx::raw_sql(
        "CREATE FUNCTION public.upper_id() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN new.order_id = upper(new.order_id); RETURN new; END $$;
         CREATE TRIGGER upper_id BEFORE INSERT ON sync.order_queue FOR EACH ROW EXECUTE FUNCTION public.upper_id();
         CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER keep BEFORE UPDATE ON sync.order_queue FOR EACH ROW EXECUTE FUNCTION public.keep()",
    )
    .execute(&lab.pool)
    .await?;
    // K-1 gets no user; abc-1 and zz-1 get other ids, and the latter collides with ABC-7 in one statement.
    let feed = "order_id,connect_user_id\nK-1,u\nabc-1,u\nabc-7,u\nABC-7,u\nN-1,u\n";
    let finished = Finished::of_input(lab.with_database(&["enqueue"]), feed.as_bytes()).await?.expect_code(3);
    for order in ["K-1", "abc-1", "abc-7"] {
        let line = format!("order {order}: a trigger or rule of the database has dropped or changed it");
        assert!(finished.stderr.contains(&line), "{}", finished.stderr);
    }
    assert_eq!(
        lab.count("SELECT count(*) FROM sync.order_queue WHERE order_id IN ('N-1', 'ABC-1', 'ABC-7')").await?,
        3
    );
    let counts: Vec<u64> =
        finished.stdout.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 5, "{}", finished.stdout);
    Ok(())
}
