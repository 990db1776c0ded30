//! For any replies in any order, the rows are those that the rules (`model`) demand.
//!
//! proptest generates cases from a fixed seed and shrinks failures. `CHATSYNC_PROPERTY_CASES` sets their number,
//! `CHATSYNC_PROPERTY_SEED` the seed.

#[path = "../../fuzz/corpus.rs"]
mod corpus;
mod found;
mod model;
#[path = "../../fuzz/mutator.rs"]
mod mutator;
mod play;
mod replies;

use std::sync::Arc;

use anyhow::{anyhow, ensure};
use chatsync::db::runs::Trigger;
use chatsync::sync::{Progress, Request};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};
use found::{
    a_name_counts_wherever_the_reply_says_it, an_altered_text_is_called_so_as_long_as_it_stands,
    an_order_put_back_is_open_even_if_its_conversation_was_emptied,
};
use model::Model;
use play::{Play, Rows};
use replies::Step;

tests!(
    an_altered_text_is_called_so_as_long_as_it_stands,
    an_order_put_back_is_open_even_if_its_conversation_was_emptied,
    a_name_counts_wherever_the_reply_says_it,
    rows_say_what_the_replies_said,
    facts_that_only_grow_do_not_depend_on_the_order_of_replies,
    any_bytes_leave_the_order_alive_and_keep_what_was_not_understood,
);

async fn rows_say_what_the_replies_said(lab: Arc<Lab>) -> anyhow::Result<()> {
    check(10, &replies::sequence(), async |steps| expect_rows(&lab, &steps).await)
}

/// Plays the answers, and expects the rows of the model after each.
async fn expect_rows(lab: &Lab, steps: &[Step]) -> anyhow::Result<()> {
    let play = Play::start(lab, &["order"]).await?;
    let mut model = Model::default();
    let mut before = Rows::read(lab).await?;
    for (turn, step) in steps.iter().enumerate() {
        play.turn(lab, &[("order", 0, Some(step))]).await?;
        model.hear(step);
        let after = Rows::read(lab).await?;
        let (stored, expected) = (after.lines(), model.lines());
        ensure!(stored == expected, "turn {turn}: {stored:#?}\ninstead of {expected:#?}");
        after.expect_updated_at_to_move_with_content_only(&before)?;
        before = after;
    }
    Ok(())
}

async fn facts_that_only_grow_do_not_depend_on_the_order_of_replies(lab: Arc<Lab>) -> anyhow::Result<()> {
    check(6, &replies::shuffled_with_repetitions(), async |(one, other)| {
        let play = Play::start(&lab, &["one", "other"]).await?;
        for turn in 0..one.len().max(other.len()) {
            play.turn(&lab, &[("one", 0, one.get(turn)), ("other", 1_000, other.get(turn))]).await?;
        }
        let rows = Rows::read(&lab).await?;
        let (facts, again) = (rows.growing_facts("one", 0), rows.growing_facts("other", 1_000));
        ensure!(facts == again, "{facts:#?}\nagainst {again:#?}");
        Ok(())
    })
}

async fn any_bytes_leave_the_order_alive_and_keep_what_was_not_understood(lab: Arc<Lab>) -> anyhow::Result<()> {
    let orders = number("CHATSYNC_PROPERTY_CASES").unwrap_or(1).saturating_mul(200);
    let first = number("CHATSYNC_PROPERTY_SEED").unwrap_or(1);
    let spoilt = corpus::replies();
    let api = Recorder::start(move |asked| {
        let order = asked.target.split('/').nth(4).expect("a chat request");
        match order.parse() {
            Ok(seed) => Answer::new(200, spoilt.input(seed)),
            // Good replies in between: only bad ones would be an outage.
            Err(_) => Answer::json(200, &serde_json::json!({"chat_messages": []})),
        }
    })
    .await;
    let ids: Vec<String> = (0..orders).map(|order| first.wrapping_add(order).to_string()).collect();
    let good: Vec<String> = ids.iter().map(|id| format!("{id}-good")).collect();
    lab.enqueue(&ids.iter().zip(&good).flat_map(|(id, good)| [id.as_str(), good.as_str()]).collect::<Vec<_>>()).await?;
    let report = lab.sync(api.url(), &[]).await?;
    if report.failure.is_some() {
        let worker = lab.worker(&lab.settings(api.url(), &[]));
        for id in ids {
            let request = Request { only: Some(vec![id.clone()]), ..Request::all(Trigger::Manual) };
            let alone = worker.run(&request, &CancellationToken::new(), &Progress::default()).await?;
            ensure!(alone.failure.is_none(), "seed {id}: {:?}", alone.failure);
        }
    }
    ensure!(report.failure.is_none(), "{:?}", report.failure);
    let lost = "SELECT count(*) FROM sync.order_queue AS q
                WHERE q.state NOT IN ('pending', 'open', 'expired')
                   OR (q.last_error_kind IS NOT NULL OR q.state = 'pending')
                      AND NOT EXISTS (SELECT FROM sync.rejects AS r WHERE r.order_id = q.order_id)";
    assert_eq!(lab.count(lost).await?, 0);
    let read = lab.count("SELECT count(DISTINCT order_id) FROM chat.messages").await?.unsigned_abs();
    assert!(read > 0 && read < orders, "{read} of {orders} replies had messages: the test tests something");
    Ok(())
}

/// Runs a property on `cases` values and reports the smallest failing one.
fn check<S: Strategy>(
    cases: u64,
    strategy: &S,
    property: impl AsyncFn(S::Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cases = number("CHATSYNC_PROPERTY_CASES").unwrap_or(cases);
    let seed = number("CHATSYNC_PROPERTY_SEED").unwrap_or(1);
    let config = Config {
        cases: u32::try_from(cases)?,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let holds = |value| {
        let result = Handle::current().block_on(property(value));
        result.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    };
    tokio::task::block_in_place(|| TestRunner::new(config).run(strategy, holds))
        .map_err(|error| anyhow!("with CHATSYNC_PROPERTY_SEED={seed}: {error}"))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}
