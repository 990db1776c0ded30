//! `chatsync why`: the report of an order by the real binary, after real attempts.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{assert_hides, only_json, with_empty_database};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    every_attempt_is_listed_with_what_it_wrote,
    the_last_eight_attempts_are_kept,
    an_order_never_fetched_is_due_at_once,
    an_open_order_is_due_because_of_a_setting_that_is_named,
    a_failed_order_shows_the_failure_and_the_next_try,
    a_closed_order_shows_how_to_retry_it,
    a_dead_order_waits_for_a_person,
    an_expired_order_is_not_read_any_more,
    rejects_are_listed_without_their_text,
    the_holder_is_shown_while_the_order_is_leased,
    people_read_the_same_and_no_chat_text_or_name,
    an_unknown_order_is_an_error_with_a_hint,
    looking_changes_nothing,
    a_database_without_tables_stays_so,
);

const SECRETS: [&str; 4] = ["Leave it at the door", "Johanna", "Roberto", "avatars.test"];

async fn every_attempt_is_listed_with_what_it_wrote(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::json(200, &conversation(2))).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    api.sync(&lab).await?;
    // A third message; and the first was read meanwhile.
    let mut grown = conversation(3);
    grown["chat_messages"][0]["read"] = true.into();
    api.sync_answer(&lab, Answer::json(200, &grown)).await?;
    api.sync_answer(&lab, Answer::new(503, "")).await?;
    grown["chat_messages"][1]["id"] = "not a number".into();
    api.sync_answer(&lab, Answer::json(200, &grown)).await?;
    api.sync_answer(&lab, Answer::json(200, &json!({"is_expired": true, "chat_messages": []}))).await?;

    let why = why(&lab, &[]).await?;
    let shown: Vec<Value> = attempts(&why)
        .iter()
        .map(|attempt| {
            let fields = ["outcome", "http_status", "requests", "messages_inserted", "messages_updated"];
            fields.iter().map(|field| attempt[*field].clone()).collect()
        })
        .collect();
    assert_eq!(
        shown,
        [
            json!(["read", 200, 1, 2, 0]),
            json!(["unchanged", 200, 1, 0, 0]),
            json!(["read", 200, 1, 1, 1]),
            json!(["server_error", 503, 4, 0, 0]),
            json!(["partly_understood", 200, 1, 0, 0]),
            json!(["expired", 200, 1, 0, 0]),
        ]
    );
    for attempt in attempts(&why) {
        let (asked, settled) = (time(&attempt["asked_at"]), time(&attempt["settled_at"]));
        assert!(asked < settled && attempt["latency_ms"].as_i64() >= Some(0), "{attempt}");
    }
    assert_eq!(why["stored"]["messages"], 3);
    assert_eq!(why["stored"]["first_message_at"], "2026-01-01T10:01:00Z");
    assert_eq!(why["stored"]["last_message_at"], "2026-01-01T10:03:00Z");
    assert_eq!(why["stored"]["participants"], 2);
    Ok(())
}

async fn the_last_eight_attempts_are_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::json(200, &conversation(1))).await;
    lab.enqueue(&["order"]).await?;
    let mut settled = Vec::new();
    for _ in 0..11 {
        api.sync(&lab).await?;
        let why = why(&lab, &[]).await?;
        let last = attempts(&why).last().expect("an attempt");
        settled.push(last["settled_at"].clone());
    }
    let kept: Vec<Value> = attempts(&why(&lab, &[]).await?).iter().map(|one| one["settled_at"].clone()).collect();
    assert_eq!(kept, settled[3..], "the last eight, oldest first");
    Ok(())
}

async fn an_order_never_fetched_is_due_at_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["order"]).await?;
    let why = why(&lab, &[("CHATSYNC__SCHEDULE__CRON", "0 0 3 1 1 *")]).await?;
    assert_eq!((&why["state"], &why["coverage"]), (&json!("pending"), &json!("pending")));
    assert_eq!((&why["source"], &why["attempts"], &why["held"]), (&json!("test"), &json!([]), &json!(null)));
    let next = text(&why["next"]["means"]);
    assert!(
        next.contains("the next run takes it, by schedule.cron at 20") && next.contains("-01-01T03:00:00Z"),
        "{next}"
    );
    assert!(text(&why["deadline"]["means"]).contains("): queue.readable_window = 24h after it was enqueued"));
    assert!(text(&why["token"]).contains("needs a connect_user_id"), "user_assertion is the default: {why}");
    Ok(())
}

async fn an_open_order_is_due_because_of_a_setting_that_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::json(200, &conversation(1))).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    let settings = [("CHATSYNC__AUTH__MODE", "client_credentials")];
    let as_configured = why(&lab, &settings).await?;
    assert_eq!(as_configured["coverage"], "captured_open");
    assert_eq!(as_configured["token"], "the one for all orders (auth.mode = client_credentials)");
    let next = text(&as_configured["next"]["means"]);
    assert!(next.contains("), because queue.refresh_after = 6h; the first run from then on"), "{next}");
    assert!(text(&as_configured["deadline"]["means"]).contains("after its last good read"), "{as_configured}");
    // A changed setting is no reason.
    let changed = why(&lab, &[("CHATSYNC__QUEUE__REFRESH_AFTER", "2h")]).await?;
    assert_eq!(changed["next"]["due_at"], as_configured["next"]["due_at"]);
    let next = text(&changed["next"]["means"]);
    assert!(!next.contains("because") && next.contains("another than the present 2h"), "{next}");
    Ok(())
}

async fn a_failed_order_shows_the_failure_and_the_next_try(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::new(403, "{}")).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    let why = why(&lab, &[]).await?;
    assert_eq!((&why["state"], &why["failures_in_a_row"]), (&json!("pending"), &json!(1)));
    assert_eq!((&why["last_error_kind"], &attempts(&why)[0]["outcome"]), (&json!("forbidden"), &json!("forbidden")));
    assert_eq!(attempts(&why)[0]["http_status"], 403);
    let next = text(&why["next"]["means"]);
    assert!(next.contains("because it failed 1 time(s) in a row: queue.retry_backoff = 1m"), "{next}");
    Ok(())
}

async fn a_closed_order_shows_how_to_retry_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::not_found()).await;
    lab.enqueue(&["it's one"]).await?;
    api.sync(&lab).await?;
    let why = why_of(&lab, "it's one", &[]).await?;
    assert_eq!((&why["state"], &why["coverage"]), (&json!("closed"), &json!("not_found")));
    assert_eq!((&attempts(&why)[0]["outcome"], &attempts(&why)[0]["http_status"]), (&json!("closed"), &json!(404)));
    assert_eq!((&why["next"]["due_at"], &why["deadline"]["at"]), (&json!(null), &json!(null)));
    assert_eq!(why["next"]["means"], r"nothing: closed; `chatsync retry --order 'it'\''s one'` puts it back");
    assert!(why["closed_at"].is_string(), "{why}");
    Ok(())
}

async fn a_dead_order_waits_for_a_person(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::json(422, &json!({"error": {"message": "no", "code": 1001}}))).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    let why = why(&lab, &[]).await?;
    assert_eq!((&why["state"], &why["coverage"]), (&json!("dead"), &json!("failed")));
    assert_eq!(attempts(&why)[0]["http_status"], 422);
    assert!(text(&why["next"]["means"]).starts_with("nothing: given up; `chatsync retry --order order`"), "{why}");
    Ok(())
}

async fn an_expired_order_is_not_read_any_more(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::json(200, &conversation(2))).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    api.sync_answer(&lab, Answer::json(200, &json!({"is_expired": true, "chat_messages": []}))).await?;
    let why = why(&lab, &[]).await?;
    assert_eq!((&why["state"], &why["coverage"]), (&json!("expired"), &json!("captured")));
    assert_eq!(why["coverage_means"], "the conversation is stored and proven complete");
    assert_eq!(why["deadline"], json!({"at": null, "means": "none: it is not read any more"}));
    assert!(why["expired_at"].is_string() && why["next"]["due_at"].is_null(), "{why}");
    Ok(())
}

async fn rejects_are_listed_without_their_text(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = conversation(2);
    reply["chat_messages"][1]["id"] = SECRETS[0].into();
    let api = Api::start(Answer::json(200, &reply)).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    let finished = Finished::of(lab.with_database(&["why", "order", "--json"])).await?.expect_code(0);
    assert_hides(&finished.stdout, SECRETS);
    let why = only_json(&finished)?;
    assert_eq!(why["rejects"]["count"], 1);
    let reject = &why["rejects"]["latest"][0];
    assert_eq!(reject["json_path"], "$.chat_messages[1].id");
    assert_eq!((&reject["kind"], &reject["http_status"]), (&json!("partly_understood"), &json!(200)));
    assert!(
        text(&reject["reason"]).starts_with("expected a 64-bit integer") && reject["received_at"].is_string(),
        "{reject}"
    );
    Ok(())
}

async fn the_holder_is_shown_while_the_order_is_leased(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["order"]).await?;
    sqlx::query(
        "INSERT INTO sync.runs (run_id, trigger, worker, alive_until)
         VALUES (gen_random_uuid(), 'manual', 'busy:1:ab', now() + interval '1 hour'),
                (gen_random_uuid(), 'manual', 'dead:2:cd', now() - interval '1 hour')",
    )
    .execute(&lab.pool)
    .await?;
    lease(&lab, "gen_random_uuid()", "now() + interval '1 hour'").await?;
    let held = why(&lab, &[]).await?;
    assert_eq!(held["held"]["running_workers"], json!(["busy:1:ab"]));
    assert!(held["held"]["until"].is_string() && held["held"]["lease_id"].is_string(), "{held}");
    assert!(text(&held["next"]["means"]).starts_with("the worker that holds it settles it"), "{held}");
    // After its lease the order is free, and the next run takes it over.
    lease(&lab, "lease_id", "now() - interval '1 second'").await?;
    let silent = why(&lab, &[]).await?;
    assert_eq!(silent["held"], json!(null));
    assert!(text(&silent["next"]["means"]).contains("the next run takes it"), "{silent}");
    let shown = Finished::of(lab.with_database(&["why", "order"])).await?.expect_code(0).stdout;
    assert!(shown.contains("held         by no worker: the lease ended at"), "{shown}");
    lease(&lab, "NULL", "NULL").await
}

async fn people_read_the_same_and_no_chat_text_or_name(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = conversation(3);
    reply["chat_messages"][2]["id"] = SECRETS[0].into();
    let api = Api::start(Answer::json(200, &reply)).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    let stored = lab.text("SELECT string_agg(t::text, ' ') FROM (TABLE chat.users) AS t").await?.expect("users");
    assert!(stored.contains(SECRETS[1]) && stored.contains(SECRETS[3]), "there is something to hide: {stored}");
    let mut command = lab.with_database(&["why", "order"]);
    command.env("CHATSYNC__LOG__LEVEL", "trace");
    let finished = Finished::of(command).await?.expect_code(0);
    let shown = &finished.stdout;
    assert_hides(shown, SECRETS);
    assert_hides(&finished.stderr, SECRETS);
    for line in [
        "order        order\n",
        "state        open: it was read, and is read again whenever it is due\n",
        "coverage     captured_open: the conversation is stored as last read, and may still grow\n",
        "held         by no worker\n",
        "completed    –\n",
        "last error   partly_understood: 1 value(s) of the reply left out",
        "stored       2 messages (0 of them no longer shown by the API), from 2026-01-01T10:01:00Z to",
        "$.chat_messages[2].id",
        "1 in sync.rejects in all",
    ] {
        assert!(shown.contains(line), "{line:?} in\n{shown}");
    }
    let mut lines = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = lines.find(|words| words.get(2) == Some(&"200")).expect("the attempt");
    assert_eq!((words[1..3].to_vec(), words[4..].to_vec()), (vec!["partly_understood", "200"], vec!["1", "2", "0"]));
    Ok(())
}

async fn an_unknown_order_is_an_error_with_a_hint(lab: Arc<Lab>) -> anyhow::Result<()> {
    for arguments in [["why", "no such order"].as_slice(), &["why", "no such order", "--json"]] {
        let finished = Finished::of(lab.with_database(arguments)).await?.expect_code(1);
        assert_eq!(finished.stdout, "");
        let shown = "error: order no such order is not in the queue: add it with `chatsync enqueue`\n";
        assert_eq!(finished.stderr, shown);
    }
    Ok(())
}

async fn looking_changes_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Answer::json(200, &conversation(2))).await;
    lab.enqueue(&["order"]).await?;
    api.sync(&lab).await?;
    let before = (lab.dump("sync").await?, lab.dump("chat").await?);
    Finished::of(lab.with_database(&["why", "order"])).await?.expect_code(0);
    why(&lab, &[]).await?;
    assert_eq!((lab.dump("sync").await?, lab.dump("chat").await?), before);
    Ok(())
}

async fn a_database_without_tables_stays_so(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        for arguments in [["why", "order"].as_slice(), &["plan"]] {
            let mut command = lab.command(arguments);
            command.env("DATABASE_URL", url);
            let finished = Finished::of(command).await?.expect_code(1);
            assert!(finished.stderr.contains("run `chatsync migrate`"), "{}", finished.stderr);
        }
        Ok(())
    })
    .await
}

/// `chatsync why order --json` with nothing configured but the database and `more` variables.
async fn why(lab: &Lab, more: &[(&str, &str)]) -> anyhow::Result<Value> {
    why_of(lab, "order", more).await
}

async fn why_of(lab: &Lab, order: &str, more: &[(&str, &str)]) -> anyhow::Result<Value> {
    let mut command = lab.with_database(&["why", order, "--json"]);
    command.envs(more.iter().copied());
    let finished = Finished::of(command).await?.expect_code(0);
    assert_eq!(finished.stderr, "");
    assert_hides(&finished.stdout, SECRETS);
    only_json(&finished)
}

fn attempts(why: &Value) -> &[Value] {
    why["attempts"].as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn time(value: &Value) -> chrono::DateTime<chrono::Utc> {
    text(value).parse().expect("a time")
}

/// Writes SQL expressions into the lease of the only order.
async fn lease(lab: &Lab, id: &str, until: &str) -> anyhow::Result<()> {
    let update = format!("UPDATE sync.order_queue SET lease_id = {id}, leased_until = {until}");
    sqlx::query(sqlx::AssertSqlSafe(update)).execute(&lab.pool).await?;
    Ok(())
}

/// Messages of a customer to a shopper, full of text that must not be shown.
fn conversation(messages: usize) -> Value {
    let message = |id: usize| {
        json!({
            "id": id, "order_id": 5, "created_at": format!("2026-01-01T10:0{id}:00Z"), "sender_type": "user",
            "sender_id": 1, "recipient_type": "driver", "recipient_id": 2, "read": false,
            "body": format!("{} {id}", SECRETS[0])
        })
    };
    let user =
        |id: i64, name: &str| json!({"id": id, "display_name": name, "avatar_url": "https://avatars.test/1.png"});
    json!({
        "chat_messages": (1..=messages).map(message).collect::<Vec<_>>(),
        "metadata": {"customer": user(1, SECRETS[1]), "current_shopper": user(2, SECRETS[2]), "shoppers": []}
    })
}

/// An API that gives one answer to everything, until it changes.
struct Api {
    answer: Arc<Mutex<Answer>>,
    server: Recorder,
}

impl Api {
    async fn start(first: Answer) -> Self {
        let answer = Arc::new(Mutex::new(first));
        let given = Arc::clone(&answer);
        let server = Recorder::start(move |_| given.lock().expect("not poisoned").clone()).await;
        Self { answer, server }
    }

    /// A run over all live orders, due or not.
    async fn sync(&self, lab: &Lab) -> anyhow::Result<()> {
        lab.make_all_due().await?;
        lab.sync(self.server.url(), &[]).await?;
        Ok(())
    }

    async fn sync_answer(&self, lab: &Lab, answer: Answer) -> anyhow::Result<()> {
        *self.answer.lock().expect("not poisoned") = answer;
        self.sync(lab).await
    }
}
