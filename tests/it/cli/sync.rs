//! `chatsync sync`: what it prints, how it ends, and what it must never print.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use chatsync::simulator::{self, Options};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{assert_hides, only_json, send};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, eventually, tests};

tests!(
    json_is_the_run_as_recorded_and_nothing_else,
    the_summary_for_people_is_all_of_standard_output,
    nothing_due_is_a_success,
    failed_orders_make_exit_code_3,
    a_refused_token_stops_the_run_with_exit_code_1,
    limit_leaves_the_rest_due,
    an_order_asked_for_is_fetched_before_it_is_due_and_alone,
    an_order_that_cannot_be_fetched_is_refused_with_a_hint,
    chat_texts_names_and_tokens_show_at_no_log_level,
    a_stopped_run_is_no_success_and_releases_its_orders,
    plain_http_needs_no_certificates_and_https_names_the_package,
);

async fn json_is_the_run_as_recorded_and_nothing_else(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = Options { orders: 40, not_found_share: 0.3, expired_share: 0.0, ..Options::default() };
    let api = simulator::start((Ipv4Addr::LOCALHOST, 0).into(), options.clone()).await?;
    let ids: Vec<String> = simulator::orders(&options).map(|order| order.order_id).collect();
    lab.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let command = lab.configured(&["sync", "--json"], &api.base_url(), &[("log.level", "debug")]);
    let run = only_json(&Finished::of(command).await?.expect_code(0))?;
    let number = |key: &str| run[key].as_i64().unwrap_or_else(|| panic!("{key} in {run}"));
    assert_eq!(number("claimed"), 40);
    assert_eq!(number("fetched") + number("closed"), 40);
    assert!(number("closed") > 0, "some orders are unknown to the API: {run}");
    assert_eq!((&run["status"], &run["trigger"], &run["error"]), (&json!("succeeded"), &json!("manual"), &json!(null)));
    for counter in ["unchanged", "failed", "dead", "messages_updated", "throttled"] {
        assert_eq!(number(counter), 0, "{counter}");
    }
    assert_eq!(number("requests"), 40);
    assert_eq!(number("messages_inserted"), lab.count("SELECT count(*) FROM chat.messages").await?);
    assert_eq!(number("users_written"), lab.count("SELECT count(*) FROM chat.users").await?);

    // Rust and PostgreSQL write times, and reals without a fraction, differently.
    let times = ["started_at", "finished_at", "alive_until"];
    let mut recorded: Value =
        serde_json::from_str(&lab.text("SELECT to_jsonb(r)::text FROM sync.runs AS r").await?.expect("a row"))?;
    for time in times {
        assert!(run[time].is_string(), "{run}");
        recorded[time] = run[time].clone();
    }
    recorded["requests_per_second"] = json!(recorded["requests_per_second"].as_f64());
    assert_eq!(run, recorded);
    api.stop().await;
    Ok(())
}

async fn the_summary_for_people_is_all_of_standard_output(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|asked| if is_about(asked, "gone") { Answer::not_found() } else { one_message() }).await;
    lab.enqueue(&["here", "gone"]).await?;
    let command = lab.configured(&["sync"], api.url(), &[("log.level", "trace")]);
    let finished = Finished::of(command).await?.expect_code(0);
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert!(lines[0].starts_with("run ") && lines[0].contains(" succeeded in "), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "  orders     1 fetched (0 unchanged), 1 closed, 0 failed, 0 dead",
            "  messages   1 inserted, 0 updated",
            "  users      2 written",
            "  requests   2 (0 throttled)",
        ]
    );
    assert!(finished.stderr.contains("run finished"), "logs go to standard error: {}", finished.stderr);
    Ok(())
}

async fn nothing_due_is_a_success(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| one_message()).await;
    let run = only_json(&sync(&lab, &api, &[]).await?.expect_code(0))?;
    assert_eq!((&run["status"], &run["claimed"]), (&json!("succeeded"), &json!(0)));
    assert_eq!(api.asked().len(), 0);
    Ok(())
}

async fn failed_orders_make_exit_code_3(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api =
        Recorder::start(|asked| if is_about(asked, "bad") { Answer::new(403, "{}") } else { one_message() }).await;
    lab.enqueue(&["good", "bad"]).await?;
    let run = only_json(&sync(&lab, &api, &[]).await?.expect_code(3))?;
    assert_eq!((&run["status"], &run["fetched"]), (&json!("partial"), &json!(1)), "{run}");
    assert_eq!(run["failed"].as_i64().zip(run["dead"].as_i64()).map(|(failed, dead)| failed + dead), Some(1), "{run}");
    Ok(())
}

async fn a_refused_token_stops_the_run_with_exit_code_1(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| Answer::new(401, "{}")).await;
    lab.enqueue(&["one", "two", "three"]).await?;
    let finished = sync(&lab, &api, &[]).await?.expect_code(1);
    let run = only_json(&finished)?;
    assert_eq!((&run["status"], &run["claimed"]), (&json!("failed"), &json!(0)), "{run}");
    assert!(run["error"].as_str().is_some_and(|error| error.contains("credentials were refused (401)")), "{run}");
    let shown = "error: asking for the messages: the credentials were refused (401); check section auth";
    assert!(finished.stderr.contains(shown), "{}", finished.stderr);
    assert_hides(&finished.stderr, ["simulated-token"]);
    let untouched = "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND failures = 0";
    assert_eq!(lab.count(untouched).await?, 3, "no order is to blame");
    Ok(())
}

async fn limit_leaves_the_rest_due(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| one_message()).await;
    lab.enqueue(&["a", "b", "c", "d", "e"]).await?;
    for (claimed, left) in [(2, 3), (2, 1), (1, 0)] {
        let run = only_json(&sync(&lab, &api, &["--limit", "2"]).await?.expect_code(0))?;
        assert_eq!(run["claimed"], claimed);
        assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE due_at <= now()").await?, left);
    }
    assert_eq!(api.asked().len(), 5);
    Ok(())
}

async fn an_order_asked_for_is_fetched_before_it_is_due_and_alone(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| one_message()).await;
    lab.enqueue(&["wanted", "due"]).await?;
    sqlx::query("UPDATE sync.order_queue SET due_at = now() + interval '1 day' WHERE order_id = 'wanted'")
        .execute(&lab.pool)
        .await?;
    let run = only_json(&sync(&lab, &api, &["--order", "wanted"]).await?.expect_code(0))?;
    assert_eq!(run["claimed"], 1);
    let asked: Vec<String> = api.asked().into_iter().map(|asked| asked.target).collect();
    assert_eq!(asked, ["/v2/post_checkout/chat/wanted/messages"]);
    Ok(())
}

async fn an_order_that_cannot_be_fetched_is_refused_with_a_hint(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| one_message()).await;
    lab.enqueue(&["good", "dead"]).await?;
    sqlx::query("UPDATE sync.order_queue SET state = 'dead' WHERE order_id = 'dead'").execute(&lab.pool).await?;
    for (order, way_out) in [("unknown", "`chatsync enqueue`"), ("dead", "`chatsync retry --order`")] {
        let finished = sync(&lab, &api, &["--order", "good", "--order", order]).await?.expect_code(1);
        let error = finished.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(&format!("order {order} is ")) && error.contains(way_out), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
    }
    assert_eq!(api.asked().len(), 0, "nothing is fetched before the mistake is fixed");
    Ok(())
}

async fn chat_texts_names_and_tokens_show_at_no_log_level(lab: Arc<Lab>) -> anyhow::Result<()> {
    let secrets =
        ["The soup is cold", "Zebedee", "avatar-of-z", "photo-of-soup", "issued-token", "the-secret", "odd-text"];
    let api = Recorder::start(|asked| {
        if asked.is_token_request() {
            return Answer::token("issued-token");
        }
        let customer = json!({"id": 1, "display_name": "Zebedee", "avatar_url": "https://x.example/avatar-of-z"});
        let good = json!({
            "id": 7, "sender_type": "user", "sender_id": 1, "body": "The soup is cold",
            "image": "https://x.example/photo-of-soup", "mood": "odd-text",
        });
        // Each field in turn has a wrong type, so that every message is logged.
        let bad = |field: &str| {
            let mut message = good.clone();
            message[field] = json!({"odd-text": "The soup is cold"});
            message
        };
        let fields = ["id", "created_at", "sender_type", "sender_id", "read", "read_at", "body", "image"];
        let messages: Vec<Value> = std::iter::once(good.clone()).chain(fields.map(bad)).collect();
        let whole = json!({
            "chat_messages": messages,
            "metadata": {"customer": customer, "current_shopper": "Zebedee", "shoppers": ["Zebedee", {"id": "Zebedee"}]},
        });
        match asked.target.split('/').nth(4) {
            Some("readable") => Answer::json(200, &whole),
            Some("broken") => Answer::new(200, "{\"chat_messages\": [The soup is cold"),
            Some("odd") => Answer::json(200, &json!({"chat_messages": "The soup is cold"})),
            _ => Answer::new(403, "The soup is cold, Zebedee; issued-token"),
        }
    })
    .await;
    let credentials =
        [("auth.mode", "client_credentials"), ("auth.client_id", "me"), ("auth.client_secret", "the-secret")];
    // The bare level is for chatsync; the others enable every library.
    for (level, format) in [("trace", "text"), ("trace", "json"), ("trace,hyper=trace,sqlx=trace", "text")] {
        lab.enqueue(&["readable", "broken", "odd", "forbidden"]).await?;
        let mut more = credentials.to_vec();
        more.extend([("log.level", level), ("log.format", format)]);
        let finished = Finished::of(lab.configured(&["sync"], api.url(), &more)).await?.expect_code(3);
        let is_said = |text: &str| assert!(finished.stderr.contains(text), "{text} in {}", finished.stderr);
        is_said("readable");
        is_said("broken");
        if level.contains("sqlx") {
            is_said("db.statement");
        }
        assert_hides(&finished.stderr, secrets);
        assert_hides(&finished.stdout, secrets);
        let stored = lab.dump("sync").await?.into_iter().filter(|row| !row.starts_with("rejects "));
        assert_hides(&stored.collect::<Vec<_>>().join("\n"), secrets);
        assert_eq!(lab.count("SELECT count(*) FROM chat.messages WHERE body = 'The soup is cold'").await?, 1);
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
    }
    Ok(())
}

async fn a_stopped_run_is_no_success_and_releases_its_orders(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = Options { latency: Duration::from_millis(200), not_found_share: 0.0, ..Options::default() };
    let api = simulator::start((Ipv4Addr::LOCALHOST, 0).into(), options).await?;
    let ids: Vec<String> = (0..100).map(|number| format!("order-{number}")).collect();
    lab.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let command = lab.configured(&["sync", "--json"], &api.base_url(), &[("pace.max_in_flight", "1")]).spawn();
    let child = command?;
    let fetched = "SELECT count(*) FROM sync.order_queue WHERE last_fetched_at IS NOT NULL";
    eventually("the first order is stored", async || Ok(Some(lab.count(fetched).await?).filter(|count| *count > 0)))
        .await?;
    send(&child, Signal::SIGTERM)?;
    let finished = Finished::of_child(child).await?.expect_code(1);
    let run = only_json(&finished)?;
    assert_eq!(run["status"], "interrupted", "{run}");
    assert_eq!(run["claimed"], lab.count(fetched).await?);
    assert!(run["claimed"].as_i64() < Some(100), "{run}");
    assert!(finished.stderr.contains("error: interrupted before"), "{}", finished.stderr);
    assert_eq!(lab.leases_left().await?, 0);
    let rest = "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND failures = 0 AND due_at <= now()";
    assert_eq!(lab.count(rest).await? + lab.count(fetched).await?, 100);
    api.stop().await;
    Ok(())
}

/// `chatsync sync --json …` with a static token.
async fn sync(lab: &Lab, api: &Recorder, arguments: &[&str]) -> anyhow::Result<Finished> {
    let arguments = [&["sync", "--json"], arguments].concat();
    Finished::of(lab.configured(&arguments, api.url(), &[])).await
}

fn is_about(asked: &Asked, order_id: &str) -> bool {
    asked.target.ends_with(&format!("/{order_id}/messages"))
}

/// A conversation of one message between two users.
fn one_message() -> Answer {
    let message = json!({
        "id": 1, "sender_type": "user", "sender_id": 1, "recipient_type": "driver", "recipient_id": 2, "body": "hi",
        "created_at": "2026-01-31T10:00:00Z",
    });
    Answer::json(200, &json!({"chat_messages": [message], "is_expired": false}))
}

async fn plain_http_needs_no_certificates_and_https_names_the_package(lab: Arc<Lab>) -> anyhow::Result<()> {
    let without_certificates = |base_url: &str| {
        let mut command = lab.configured(&["sync"], base_url, &[]);
        command.env("SSL_CERT_FILE", "/nowhere/ca.pem").env("SSL_CERT_DIR", lab.home.path());
        command
    };
    lab.enqueue(&["one"]).await?;
    let api = Recorder::start(crate::sync::simulated).await;
    Finished::of(without_certificates(api.url())).await?.expect_code(0);
    assert_eq!(api.chat_requests().len(), 1);
    let finished = Finished::of(without_certificates("https://127.0.0.1:9")).await?.expect_code(1);
    assert!(
        finished.stderr.contains("ca-certificates") && finished.stderr.contains("SSL_CERT_FILE"),
        "{}",
        finished.stderr
    );
    Ok(())
}
