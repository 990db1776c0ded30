//! What every status means for its order: closed, dead, retried later, or retried immediately.

use std::sync::Arc;

use chatsync::sync::Report;
use serde_json::json;

use super::{Queued, api_error, conversation, in_turn};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    only_the_apis_own_404_closes_an_order,
    code_4000_closes_an_order_in_both_shapes_and_however_it_is_written,
    a_404_that_is_not_about_the_order_fails_it,
    a_refused_request_is_dead_and_its_body_is_kept,
    pages_of_proxies_and_firewalls_make_no_order_dead,
    a_firewall_before_everything_is_an_outage,
    an_error_of_the_api_is_distinguished_from_a_page_by_its_body,
    misdirected_and_early_requests_are_retried_immediately,
    no_word_of_the_server_is_logged,
    a_403_is_tried_again_later,
    a_throttled_request_is_retried_and_counted,
    a_temporary_server_error_is_retried_without_notice,
    a_lasting_server_error_fails_the_order,
    one_bad_order_does_not_stop_the_others,
    an_outage_makes_no_order_dead,
);

async fn only_the_apis_own_404_closes_an_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (report, order, requests) = fetch(&lab, vec![Answer::not_found()]).await?;
    assert_eq!((order.state.as_str(), order.failures, order.is_closed), ("closed", 0, true));
    assert_eq!(order.last_error, None);
    assert_eq!((report.run.status.as_str(), report.run.counters.closed, requests), ("succeeded", 1, 1));
    let row = lab.text("SELECT status || ' ' || coverage FROM chat.orders WHERE closed_at IS NOT NULL").await?;
    assert_eq!(row.as_deref(), Some("closed not_found"));
    Ok(())
}

async fn code_4000_closes_an_order_in_both_shapes_and_however_it_is_written(lab: Arc<Lab>) -> anyhow::Result<()> {
    let single = |code: &str| format!(r#"{{"error":{{"message":"Resource not found","code":{code}}}}}"#);
    let within = |code: &str| {
        format!(
            r#"{{"error":{{"message":"Issues","code":9999,"errors":[{{"error":{{"message":"x","code":1001}}}},{}]}}}}"#,
            single(code)
        )
    };
    let mut bodies = vec![format!("\u{feff}{}", single("4000")), format!("\n {}\n", single("4000"))];
    for code in ["4000", r#""4000""#, "4000.0", r#""4000 ""#] {
        bodies.extend([single(code), within(code)]);
    }
    for body in bodies {
        for encoding in ["", "identity", "gzip", "rot13"] {
            sqlx::query("TRUNCATE sync.order_queue, chat.orders").execute(&lab.pool).await?;
            let answer = Answer::new(404, body.clone()).with_header("content-encoding", encoding);
            let (report, order, _) = fetch(&lab, vec![answer]).await?;
            assert_eq!((order.state.as_str(), report.run.counters.closed), ("closed", 1), "{encoding} {body}");
        }
    }
    Ok(())
}

async fn a_404_that_is_not_about_the_order_fails_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let page = Answer::new(404, "<html><body><h1>404 Not Found</h1></body></html>");
    let code = |code: &str| Answer::new(404, format!(r#"{{"error":{{"message":"No such route","code":{code}}}}}"#));
    let other = |body: &str| Answer::new(404, body);
    let uncoded = [code("4001"), code("null"), code("40000"), code(r#""4000x""#), code("4000.5")];
    let others = [page, other(""), other(r#"{"error":"4000"}"#), other(r#"{"code":4000}"#), other("[4000]")];
    let count = uncoded.len();
    for (number, answer) in uncoded.into_iter().chain(others).enumerate() {
        let what = String::from_utf8_lossy(&answer.body).into_owned();
        let (report, order, requests) = fetch(&lab, vec![answer]).await?;
        if number < count {
            // An error of the API, but not one that says the order does not exist.
            assert_eq!((order.state.as_str(), order.kind(), order.failures), ("pending", "held", 0), "{what}");
            assert_eq!((report.run.counters.held, report.run.counters.closed, requests), (1, 0, 1), "{what}");
        } else {
            order.expect_failed("not_found_unproven", i32::try_from(number + 1 - count)?);
            assert!(order.error().contains("page that is not the API's"), "{order:?}");
            assert_eq!((report.run.counters.failed, report.run.counters.closed, requests), (1, 0, 1), "{what}");
        }
        assert!(order.error().contains("404"), "{order:?}");
    }
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 0);
    // The meaning is unknown, so the body is kept.
    let kept = "SELECT count(*) FROM sync.rejects WHERE http_status = 404 AND body LIKE '%No such route%'";
    assert_eq!(lab.count(kept).await?, i64::try_from(count)?);
    Ok(())
}

async fn a_refused_request_is_dead_and_its_body_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    for status in [400, 409, 422] {
        sqlx::query("TRUNCATE sync.order_queue, sync.rejects").execute(&lab.pool).await?;
        let message = "order_id is malformed, says simulated-token";
        let (report, order, requests) = fetch(&lab, vec![api_error(status, 1007, message)]).await?;
        assert_eq!((order.state.as_str(), order.kind(), order.failures), ("dead", "refused", 1));
        assert_eq!(order.error(), format!("asking for the messages: the server answered {status}, code 1007"));
        assert_eq!((report.run.counters.dead, report.run.counters.failed, requests), (1, 0, 1));
        assert!(report.failure.is_none());
        let kept = "SELECT concat_ws('|', order_id, kind, http_status, json_path, body::jsonb -> 'error' ->> 'message')
                    FROM sync.rejects";
        let expected = format!("a|refused|{status}|$|order_id is malformed, says [token]");
        assert_eq!(lab.text(kept).await?, Some(expected), "the token is not kept");
    }
    Ok(())
}

async fn pages_of_proxies_and_firewalls_make_no_order_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    let statuses = [400, 402, 405, 406, 407, 409, 410, 411, 413, 414, 415, 418, 422, 423, 431, 451, 499];
    let large = format!("<html>{}</html>", "Request blocked. ".repeat(20_000));
    let bodies = ["<html><h1>Request blocked</h1></html>", "", r#"{"message":"Forbidden"}"#, &large];
    for (failures, status) in (1..).zip(statuses) {
        let body = bodies[status as usize % bodies.len()];
        let page = Answer::new(status, body).with_header("content-type", "text/html");
        let recorder = Recorder::start(in_turn(vec![page])).await;
        lab.enqueue(&["a"]).await?;
        lab.make_all_due().await?;
        // The smallest cap that the settings allow: a page may be of any size.
        let settings = [("queue.max_failures", "1"), ("api.max_response_bytes", "1024")];
        lab.sync(recorder.url(), &settings).await?;
        let order = Queued::row(&lab, "a").await?;
        order.expect_failed("not_the_api", failures);
        assert!(order.error().contains(&status.to_string()), "{order:?}");
        assert_eq!(recorder.asked().len(), 1, "{status}");
    }
    assert_eq!(lab.count("SELECT counted_failures::bigint FROM sync.order_queue").await?, 0);
    let (_, order, _) = fetch(&lab, vec![conversation()]).await?;
    order.expect_read();
    Ok(())
}

async fn a_firewall_before_everything_is_an_outage(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(|_| Answer::new(406, "<html>Not Acceptable</html>")).await;
    let ids: Vec<String> = (0..100).map(|number| format!("order-{number}")).collect();
    lab.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let report = lab.sync(recorder.url(), &[("breaker.give_up_after", "1s")]).await?;
    let error = report.run.error.unwrap_or_default();
    assert!(error.contains("out of order") && error.contains("406"), "{error}");
    assert_eq!(
        lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND counted_failures = 0").await?,
        100
    );
    Ok(())
}

async fn an_error_of_the_api_is_distinguished_from_a_page_by_its_body(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (body, state) in [
        (r#"{"error":{"message":"Unprocessable","code":null}}"#, "dead"),
        (r#"{"error":{"message":"","code":"1001"}}"#, "dead"),
        ("\u{feff}{\"error\":{\"code\":1001}}", "dead"),
        (r#"{"error":{"code":9999,"message":"x","errors":[]}}"#, "dead"),
        (r#"{"error":{"errors":[{"error":{"errors":[{"error":{"code":1001}}]}}]}}"#, "dead"),
        (r#"{"error":{"message":null,"code":null,"errors":[]}}"#, "pending"),
        (r#"{"error":{"errors":[{"error":{"code":null}}]}}"#, "pending"),
        (r#"{"error":"Bad Request","status":400}"#, "pending"),
        (r#"[{"error":{"code":1001}}]"#, "pending"),
        (r#"{"error":{"code":1001}}<!-- proxy -->"#, "pending"),
        (r#"{"error":{"code":1001}"#, "pending"),
    ] {
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        let answer = Answer::new(400, body).with_header("content-type", "text/html");
        let (_, order, _) = fetch(&lab, vec![answer]).await?;
        assert_eq!(order.state, state, "{body}: {order:?}");
    }
    Ok(())
}

async fn misdirected_and_early_requests_are_retried_immediately(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (status, body) in [(421, ""), (425, ""), (421, r#"{"error":{"message":"misdirected","code":1}}"#)] {
        let (report, order, requests) = fetch(&lab, vec![Answer::new(status, body), conversation()]).await?;
        order.expect_read();
        assert_eq!((report.run.status.as_str(), requests), ("succeeded", 2));
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        let (_, order, requests) = fetch(&lab, vec![Answer::new(status, body)]).await?;
        order.expect_failed("server_error", 1);
        assert_eq!(requests, 4);
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
    }
    Ok(())
}

async fn no_word_of_the_server_is_logged(lab: Arc<Lab>) -> anyhow::Result<()> {
    const SECRET: &str = "what the customer wrote";
    let error =
        |code: serde_json::Value| json!({"error": {"message": SECRET, "code": code, "detail": SECRET}, SECRET: 1});
    let recorder = Recorder::start(move |asked| {
        let (status, code) = match &asked.target {
            target if target.contains("/s400/") => (400, json!(1001)),
            target if target.contains("/s4001/") => (400, json!(4001)),
            target if target.contains("/s403/") => (403, json!(SECRET)),
            target if target.contains("/s404/") => (404, json!(null)),
            target if target.contains("/s429/") => (429, json!(4290)),
            target if target.contains("/s503/") => (503, json!(5030)),
            target if target.contains("/s204/") => (206, json!(1)),
            _ => return Answer::new(418, format!("<html>{SECRET}</html>")).with_header("x-reason", SECRET),
        };
        Answer::json(status, &error(code)).with_header("content-type", format!("text/html; title=\"{SECRET}\""))
    })
    .await;
    lab.enqueue(&["s400", "s4001", "s403", "s404", "s429", "s503", "s204", "page"]).await?;
    let finished = Finished::of(lab.configured(&["sync"], recorder.url(), &[("log.level", "trace")])).await?;
    assert!(!format!("{finished:?}").contains(SECRET), "{}", finished.stderr);
    let queue = lab.text("SELECT string_agg(q::text, ' ') FROM sync.order_queue AS q").await?.unwrap_or_default();
    assert!(queue.contains("code 1001: a field is missing or not acceptable") && !queue.contains(SECRET), "{queue}");
    let runs = lab.text("SELECT string_agg(r::text, ' ') FROM sync.runs AS r").await?.unwrap_or_default();
    assert!(!runs.contains(SECRET), "{runs}");
    for order in ["s400", "s403", "s404", "s204"] {
        let why = Finished::of(lab.with_database(&["why", order])).await?.expect_code(0);
        assert!(!why.stdout.contains(SECRET), "{}", why.stdout);
    }
    let kept =
        "SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM sync.rejects WHERE body LIKE '%customer wrote%'";
    assert_eq!(lab.text(kept).await?.as_deref(), Some("s204 s400 s404"));
    Ok(())
}

async fn a_403_is_tried_again_later(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (report, order, requests) =
        fetch(&lab, vec![api_error(403, 4030, "Shopper information has been removed")]).await?;
    order.expect_failed("forbidden", 1);
    assert!(order.error().contains("403") && order.error().contains("4030"), "{order:?}");
    assert_eq!((report.run.counters.failed, requests), (1, 1));
    Ok(())
}

async fn a_throttled_request_is_retried_and_counted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let throttled = api_error(429, 4290, "Too many requests");
    let (report, order, requests) = fetch(&lab, vec![throttled.clone(), throttled, conversation()]).await?;
    order.expect_read();
    assert_eq!(
        (report.run.counters.fetched, report.run.sent.throttled, report.run.sent.requests, requests),
        (1, 2, 3, 3)
    );
    assert_eq!(report.run.status.as_str(), "succeeded");
    Ok(())
}

async fn a_temporary_server_error_is_retried_without_notice(lab: Arc<Lab>) -> anyhow::Result<()> {
    let failures = [vec![Answer::new(500, ""), Answer::new(503, "<html>")], vec![Answer::new(408, "")]];
    for mut answers in failures {
        let sent = answers.len() + 1;
        answers.push(conversation());
        let (report, order, requests) = fetch(&lab, answers).await?;
        order.expect_read();
        assert_eq!((report.run.status.as_str(), report.run.sent.throttled, requests), ("succeeded", 0, sent));
    }
    Ok(())
}

async fn a_lasting_server_error_fails_the_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (report, order, requests) = fetch(&lab, vec![Answer::new(502, "<html>Bad Gateway</html>")]).await?;
    order.expect_failed("server_error", 1);
    assert!(order.error().contains("502"), "{order:?}");
    assert!((2..10).contains(&requests), "{requests}");
    assert_eq!((report.run.status.as_str(), report.run.counters.failed), ("failed", 1));
    assert!(report.failure.is_none(), "one order says nothing of the others");
    Ok(())
}

async fn one_bad_order_does_not_stop_the_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(|asked| match &asked.target {
        target if target.contains("/bad-1/") => api_error(403, 4030, "no"),
        target if target.contains("/bad-2/") => Answer::new(200, "<html>"),
        target if target.contains("/bad-3/") => api_error(400, 1, "no"),
        target if target.contains("/gone/") => Answer::not_found(),
        _ => conversation(),
    })
    .await;
    lab.enqueue(&["a", "b", "bad-1", "bad-2", "bad-3", "c", "d", "gone", "z"]).await?;
    let report = lab.sync(recorder.url(), &[("pace.max_in_flight", "2")]).await?;
    let run = &report.run;
    assert_eq!((run.counters.fetched, run.counters.closed, run.counters.failed, run.counters.dead), (5, 1, 2, 1));
    assert_eq!((run.status.as_str(), run.counters.claimed), ("partial", 9));
    Ok(())
}

async fn an_outage_makes_no_order_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(in_turn(vec![Answer::new(503, "down for maintenance")])).await;
    lab.enqueue(&["a"]).await?;
    for failures in 1..=3 {
        lab.make_all_due().await?;
        lab.sync(recorder.url(), &[("queue.max_failures", "2")]).await?;
        Queued::row(&lab, "a").await?.expect_failed("server_error", failures);
    }
    Ok(())
}

/// Does one run over one order. Returns the report, the order's row and the number of requests.
async fn fetch(lab: &Lab, answers: Vec<Answer>) -> anyhow::Result<(Report, Queued, usize)> {
    let recorder = Recorder::start(in_turn(answers)).await;
    lab.enqueue(&["a"]).await?;
    lab.make_all_due().await?;
    let report = lab.sync(recorder.url(), &[]).await?;
    Ok((report, Queued::row(lab, "a").await?, recorder.asked().len()))
}
