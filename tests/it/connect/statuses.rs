//! What every status means for its order: closed, dead, later, or tried again at once.

use std::sync::Arc;

use chatsync::sync::Report;
use serde_json::json;

use super::{Queued, api_error, conversation, in_turn};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};

tests!(
    only_the_apis_own_404_closes_an_order,
    a_404_that_is_not_about_the_order_fails_it,
    a_refused_request_is_dead_with_the_apis_message,
    a_403_is_tried_again_later,
    a_throttled_request_is_sent_again_and_counted,
    a_passing_server_error_is_not_noticed,
    a_lasting_server_error_fails_the_order,
    one_bad_order_does_not_stop_the_others,
    an_outage_kills_no_order,
);

async fn only_the_apis_own_404_closes_an_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (report, order, requests) = fetch(&lab, vec![Answer::not_found()]).await?;
    assert_eq!((order.state.as_str(), order.attempts, order.is_closed), ("closed", 0, true));
    assert_eq!(order.last_error, None);
    assert_eq!((report.run.status.as_str(), report.run.closed, requests), ("succeeded", 1, 1));
    let face = lab.text("SELECT status || ' ' || coverage FROM chat.orders WHERE closed_at IS NOT NULL").await?;
    assert_eq!(face.as_deref(), Some("closed not_found"));
    Ok(())
}

async fn a_404_that_is_not_about_the_order_fails_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let page = Answer::new(404, "<html><body><h1>404 Not Found</h1></body></html>");
    let code =
        |code: serde_json::Value| Answer::json(404, &json!({"error": {"message": "No such route", "code": code}}));
    let others = [page, code(json!(4001)), code(json!(null)), code(json!("4000")), Answer::new(404, "")];
    for (other, attempts) in others.into_iter().zip(1..) {
        let what = String::from_utf8_lossy(&other.body).into_owned();
        let (report, order, requests) = fetch(&lab, vec![other]).await?;
        order.expect_failed("not_found_unproven", attempts);
        assert!(order.error().contains("404"), "{order:?}");
        assert_eq!((report.run.failed, report.run.closed, requests), (1, 0, 1), "{what}");
    }
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 0);
    Ok(())
}

async fn a_refused_request_is_dead_with_the_apis_message(lab: Arc<Lab>) -> anyhow::Result<()> {
    for status in [400, 422] {
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        let (report, order, requests) = fetch(&lab, vec![api_error(status, 1007, "order_id is malformed")]).await?;
        assert_eq!((order.state.as_str(), order.kind(), order.attempts), ("dead", "refused", 1));
        for part in [status.to_string().as_str(), "order_id is malformed", "1007"] {
            assert!(order.error().contains(part), "{part}: {order:?}");
        }
        assert_eq!((report.run.dead, report.run.failed, requests), (1, 0, 1));
        assert!(report.failure.is_none());
    }
    Ok(())
}

async fn a_403_is_tried_again_later(lab: Arc<Lab>) -> anyhow::Result<()> {
    let removed = "Shopper information has been removed";
    let (report, order, requests) = fetch(&lab, vec![api_error(403, 4030, removed)]).await?;
    order.expect_failed("forbidden", 1);
    assert!(order.error().contains(removed), "{order:?}");
    assert_eq!((report.run.failed, requests), (1, 1));
    Ok(())
}

async fn a_throttled_request_is_sent_again_and_counted(lab: Arc<Lab>) -> anyhow::Result<()> {
    let throttled = api_error(429, 4290, "Too many requests");
    let (report, order, requests) = fetch(&lab, vec![throttled.clone(), throttled, conversation()]).await?;
    order.expect_read();
    assert_eq!((report.run.fetched, report.run.throttled, report.run.requests, requests), (1, 2, 3, 3));
    assert_eq!(report.run.status, "succeeded");
    Ok(())
}

async fn a_passing_server_error_is_not_noticed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let failures = [vec![Answer::new(500, ""), Answer::new(503, "<html>")], vec![Answer::new(408, "")]];
    for mut answers in failures {
        let sent = answers.len() + 1;
        answers.push(conversation());
        let (report, order, requests) = fetch(&lab, answers).await?;
        order.expect_read();
        assert_eq!((report.run.status.as_str(), report.run.throttled, requests), ("succeeded", 0, sent));
    }
    Ok(())
}

async fn a_lasting_server_error_fails_the_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (report, order, requests) = fetch(&lab, vec![Answer::new(502, "<html>Bad Gateway</html>")]).await?;
    order.expect_failed("server_error", 1);
    assert!(order.error().contains("502"), "{order:?}");
    assert!((2..10).contains(&requests), "{requests}");
    assert_eq!((report.run.status.as_str(), report.run.failed), ("failed", 1));
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
    assert_eq!((run.fetched, run.closed, run.failed, run.dead), (5, 1, 2, 1));
    assert_eq!((run.status.as_str(), run.claimed), ("partial", 9));
    Ok(())
}

async fn an_outage_kills_no_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(in_turn(vec![Answer::new(503, "down for maintenance")])).await;
    lab.enqueue(&["a"]).await?;
    for attempts in 1..=3 {
        lab.make_all_due().await?;
        lab.sync(recorder.url(), &[("queue.max_attempts", "2")]).await?;
        Queued::row(&lab, "a").await?.expect_failed("server_error", attempts);
    }
    Ok(())
}

/// One run over one order; how it ended, what became of the order, how many requests came.
async fn fetch(lab: &Lab, answers: Vec<Answer>) -> anyhow::Result<(Report, Queued, usize)> {
    let recorder = Recorder::start(in_turn(answers)).await;
    lab.enqueue(&["a"]).await?;
    lab.make_all_due().await?;
    let report = lab.sync(recorder.url(), &[]).await?;
    Ok((report, Queued::row(lab, "a").await?, recorder.asked().len()))
}
