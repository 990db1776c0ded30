//! Tests the policy, rule by rule.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::rules::retry_wait;
use super::*;
use crate::domain::{
    ClaimedOrder, Conversation, Coverage, Failure, FailureKind, Fault, HeldKind, HeldResult, IdSpace, Message, OrderId,
    OrderState, Outcome,
};

fn policy() -> QueuePolicy {
    QueuePolicy {
        max_failures: 3,
        retry_backoff: Duration::from_mins(1),
        retry_backoff_max: Duration::from_hours(1),
        refresh_after: Duration::from_hours(6),
        readable_window: Duration::from_hours(24),
        quiet_after: Duration::from_hours(7 * 24),
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time")
}

fn answered(conversation: Conversation) -> Outcome {
    Outcome::Read(conversation, vec![7])
}

fn never_fetched() -> ClaimedOrder {
    ClaimedOrder::unclaimed(OrderId::new("order").expect("valid"), now() - TimeDelta::days(3))
}

fn read_before(hours: i64, has_messages: bool) -> ClaimedOrder {
    let read = now() - TimeDelta::hours(hours);
    ClaimedOrder {
        last_fetched_at: Some(read),
        last_changed_at: Some(read),
        content_hash: Some(one_message().content_hash()),
        has_messages,
        ..never_fetched()
    }
}

fn one_message() -> Conversation {
    let message = Message { id: 1, ..Message::default() };
    Conversation { messages: vec![message], ..Conversation::default() }
}

fn expired() -> Conversation {
    Conversation { is_expired: Some(true), ..Conversation::default() }
}

fn failed(kind: FailureKind) -> Failure {
    Failure { kind, message: String::new(), in_outage: false, http_status: None, code: None, reject: None }
}

fn settle_now(order: &ClaimedOrder, outcome: Outcome) -> Settlement {
    settle(order, outcome, now(), now(), &policy(), 0.5)
}

fn coverage(order: &ClaimedOrder, outcome: Outcome) -> Coverage {
    settle_now(order, outcome).chat.order.expect("the order changes").coverage
}

#[test]
fn completeness_is_claimed_only_where_the_last_read_proves_it() {
    let read_at = |hours, has_messages| coverage(&read_before(hours, has_messages), answered(expired()));
    assert_eq!(read_at(23, true), Coverage::Captured);
    assert_eq!(read_at(24, true), Coverage::Captured);
    assert_eq!(read_at(24, false), Coverage::NoChat);
    assert_eq!(read_at(25, true), Coverage::ExpiredPartial);
    assert_eq!(read_at(25, false), Coverage::ExpiredPartial);
    assert_eq!(coverage(&never_fetched(), answered(expired())), Coverage::ExpiredUnread);
}

#[test]
fn a_repeated_expiry_counts_from_when_it_was_first_seen() {
    let mut order = read_before(100, true);
    order.expired_at = Some(now() - TimeDelta::hours(90));
    assert_eq!(coverage(&order, answered(expired())), Coverage::Captured);
    assert_eq!(coverage(&order, Outcome::NotFound), Coverage::Captured);
}

#[test]
fn a_404_after_a_read_is_not_called_not_found() {
    assert_eq!(coverage(&never_fetched(), Outcome::NotFound), Coverage::NotFound);
    assert_eq!(coverage(&read_before(1, true), Outcome::NotFound), Coverage::ExpiredPartial);
    let never_well = ClaimedOrder { last_fetched_at: None, ..read_before(1, false) };
    assert_eq!(coverage(&never_well, Outcome::NotFound), Coverage::ExpiredUnread);
    assert_eq!(coverage(&never_well, answered(expired())), Coverage::ExpiredUnread);
}

#[test]
fn an_emptied_reply_is_neither_a_change_nor_a_good_read() {
    let settled = settle_now(&read_before(1, true), answered(Conversation::default()));
    assert_eq!(settled.queue.fetched_at, None);
    assert_eq!(settled.queue.state, OrderState::Open);
    assert!(
        settled.chat.conversation.is_none() && settled.chat.order.is_none() && settled.queue.content_hash.is_none()
    );
}

#[test]
fn an_order_put_back_is_open_even_if_its_conversation_was_emptied() {
    let put_back = ClaimedOrder { content_hash: None, ..read_before(1, true) };
    let settled = settle_now(&put_back, answered(Conversation::default()));
    assert_eq!(settled.chat.order.map(|order| (order.status, order.closed_at)), Some((OrderState::Open, None)));
    assert!(
        settled.queue.fetched_at.is_none()
            && settled.chat.conversation.is_none()
            && settled.queue.content_hash.is_none()
    );
}

#[test]
fn an_unchanged_reply_is_a_good_read_that_writes_nothing() {
    let settled = settle_now(&read_before(1, true), answered(one_message()));
    assert_eq!(settled.queue.fetched_at, Some(now()));
    assert!(settled.chat.conversation.is_none() && settled.chat.order.is_none());
    assert_eq!(settled.verdict, Verdict::Unchanged);
}

#[test]
fn a_quiet_order_settles_only_if_the_api_never_reports_expiry() {
    let quiet = read_before(7 * 24, true);
    assert_eq!(settle_now(&quiet, answered(one_message())).queue.state, OrderState::Quiet);
    let mut speaking = one_message();
    speaking.is_expired = Some(false);
    let order = ClaimedOrder { content_hash: Some(speaking.content_hash()), ..quiet };
    assert_eq!(settle_now(&order, answered(speaking)).queue.state, OrderState::Open);
}

#[test]
fn a_partly_decoded_reply_removes_nothing() {
    let mut partial = one_message();
    partial.faults.push(Fault::new("$.chat_messages[1]", "no id", b"{}"));
    let settled = settle_now(&read_before(1, true), answered(partial));
    assert!(!settled.chat.marks_removed);
    assert_eq!(settled.rejects.len(), 1);
    assert_eq!(settled.attempt.note.map(|note| note.kind), Some(NoteKind::PartlyUnderstood));
}

#[test]
fn a_read_that_left_a_message_out_proves_nothing() {
    let mut partial = one_message();
    partial.faults.push(Fault::new("$.chat_messages[1].id", "", b""));
    assert_eq!(settle_now(&never_fetched(), answered(partial.clone())).queue.fetched_at, None);
    partial.faults[0].path = "$.metadata.customer".into();
    assert_eq!(settle_now(&never_fetched(), answered(partial)).queue.fetched_at, Some(now()));
    let read_in_part = ClaimedOrder { last_fetched_at: None, ..read_before(1, true) };
    assert_eq!(coverage(&read_in_part, answered(expired())), Coverage::ExpiredPartial);
    assert_eq!(coverage(&read_in_part, Outcome::NotFound), Coverage::ExpiredPartial);
}

#[test]
fn a_read_that_may_have_hidden_the_end_proves_nothing() {
    let with_fault = |path: &str, is_expired, messages| Conversation {
        faults: vec![Fault::new(path, "", b"7")],
        is_expired,
        messages,
        ..Conversation::default()
    };
    let fetched_at = |order: &ClaimedOrder, conversation| settle_now(order, answered(conversation)).queue.fetched_at;
    for path in ["$.is_expired", "$.metadata", "$.metadata.is_expired"] {
        assert_eq!(fetched_at(&never_fetched(), with_fault(path, None, Vec::new())), None, "{path}");
    }
    let elsewhere = with_fault("$.metadata.is_expired", Some(false), Vec::new());
    assert_eq!(fetched_at(&never_fetched(), elsewhere), Some(now()), "reported in the other place");

    let emptied = || with_fault("$.metadata.shoppers[0].id", None, Vec::new());
    let known = ClaimedOrder { coverage: Coverage::Captured, ..read_before(30, true) };
    let settled = settle_now(&known, answered(emptied()));
    assert_eq!((settled.queue.fetched_at, settled.rejects.len()), (None, 1), "emptied, with a value to keep");
    assert_eq!(settled.chat.order.map(|order| order.coverage), Some(Coverage::Captured));
    let grown = with_fault("$.metadata.shoppers[0].id", None, one_message().messages);
    assert_eq!(fetched_at(&read_before(30, true), grown), Some(now()));
}

#[test]
fn an_expired_reply_with_unreadable_messages_is_not_empty() {
    let in_part = || Conversation { faults: vec![Fault::new("$.chat_messages[0]", "", b"7")], ..expired() };
    assert_eq!(coverage(&read_before(1, false), answered(in_part())), Coverage::ExpiredPartial);
    assert_eq!(coverage(&never_fetched(), answered(in_part())), Coverage::ExpiredPartial);
    assert_eq!(coverage(&read_before(1, true), answered(in_part())), Coverage::Captured);
    let young = ClaimedOrder { completed_at: Some(now()), ..never_fetched() };
    assert_eq!(settle_now(&young, answered(in_part())).suspicion, None);
}

#[test]
fn a_proof_stays_valid_after_the_queue_row_was_deleted() {
    let fed_again =
        |coverage, has_messages| ClaimedOrder { coverage, has_messages, last_message_at: None, ..never_fetched() };
    let refused = || Outcome::Failed(failed(FailureKind::Refused));
    let empty = || answered(Conversation::default());
    for (proof, has_messages) in [(Coverage::Captured, true), (Coverage::NoChat, false)] {
        for outcome in [answered(expired()), Outcome::NotFound, refused(), empty()] {
            assert_eq!(coverage(&fed_again(proof, has_messages), outcome), proof);
        }
    }
    // Anything less than a proof is judged by what is known now.
    let partial = fed_again(Coverage::CapturedOpen, true);
    assert_eq!(coverage(&partial, answered(expired())), Coverage::ExpiredPartial);
    assert_eq!(coverage(&partial, refused()), Coverage::Failed);
}

#[test]
fn a_reply_that_refutes_a_proof_ends_it() {
    let silent = ClaimedOrder { coverage: Coverage::NoChat, ..never_fetched() };
    let late = Conversation { is_expired: Some(true), ..one_message() };
    assert_eq!(coverage(&silent, answered(late)), Coverage::ExpiredPartial);
    let alive = Conversation { is_expired: Some(false), ..Conversation::default() };
    assert_eq!(coverage(&silent, answered(alive)), Coverage::CapturedOpen);
    let captured = ClaimedOrder { coverage: Coverage::Captured, has_messages: true, ..never_fetched() };
    assert_eq!(coverage(&captured, answered(one_message())), Coverage::CapturedOpen);
}

#[test]
fn an_order_fed_again_after_it_was_emptied_settles_too() {
    let fed_again = |days| ClaimedOrder {
        has_messages: true,
        enqueued_at: now() - TimeDelta::days(days),
        coverage: Coverage::CapturedOpen,
        ..never_fetched()
    };
    let read = |days| settle_now(&fed_again(days), answered(Conversation::default()));
    assert_eq!(read(6).queue.state, OrderState::Open);
    assert_eq!((read(7).queue.state, read(7).queue.due_in), (OrderState::Quiet, Duration::ZERO));
}

#[test]
fn an_expired_reply_with_messages_contradicts_an_empty_read() {
    let late = Conversation { is_expired: Some(true), ..one_message() };
    assert_eq!(coverage(&read_before(1, false), answered(late.clone())), Coverage::ExpiredPartial);
    assert_eq!(coverage(&read_before(1, true), answered(late)), Coverage::Captured);
}

#[test]
fn failures_back_off_until_the_order_is_dead() {
    let failure = |kind| Outcome::Failed(failed(kind));
    let counted = || failure(FailureKind::NotUnderstood);
    let first = settle_now(&never_fetched(), counted());
    assert_eq!((first.queue.state, first.queue.due_in), (OrderState::Pending, Duration::from_mins(1)));
    let second = settle_now(&ClaimedOrder { failures: 1, ..read_before(1, true) }, counted());
    assert_eq!((second.queue.state, second.queue.due_in), (OrderState::Open, Duration::from_mins(2)));
    let third = settle_now(&ClaimedOrder { failures: 2, counted_failures: 2, ..never_fetched() }, counted());
    assert_eq!((third.queue.state, third.verdict), (OrderState::Dead, Verdict::Dead));
    assert_eq!(settle_now(&never_fetched(), failure(FailureKind::Refused)).queue.state, OrderState::Dead);
    let kind = FailureKind::NotUnderstood;
    let in_outage =
        Failure { kind, message: String::new(), in_outage: true, http_status: None, code: None, reject: None };
    let spared =
        settle_now(&ClaimedOrder { failures: 2, counted_failures: 2, ..never_fetched() }, Outcome::Failed(in_outage));
    assert_eq!((spared.queue.state, spared.queue.failures, spared.queue.counted_failures), (OrderState::Pending, 3, 2));
    let patient = QueuePolicy { max_failures: i32::MAX, ..policy() };
    for failures in [10, 31, 100, i32::MAX - 2] {
        let wait = retry_wait(&patient, failures, 1.0);
        assert_eq!(wait, patient.retry_backoff_max);
    }
}

#[test]
fn an_end_that_could_hit_every_order_is_suspicious() {
    let suspicion = |order: &ClaimedOrder, outcome| settle_now(order, outcome).suspicion;
    let uncoded = Outcome::NotFoundUncoded(failed(FailureKind::NotFoundUnproven));
    assert_eq!(suspicion(&never_fetched(), Outcome::NotFound), Some(Suspicion::Unknown));
    assert_eq!(suspicion(&read_before(1, true), Outcome::NotFound), Some(Suspicion::Vanished));
    assert_eq!(suspicion(&ClaimedOrder { was_closed: true, ..read_before(1, true) }, Outcome::NotFound), None);
    assert_eq!(suspicion(&never_fetched(), uncoded), Some(Suspicion::Uncoded));
    assert_eq!(suspicion(&never_fetched(), answered(one_message())), None);

    let at = |hours| Some(now() - TimeDelta::hours(hours));
    let early = |hours| Some(Suspicion::ExpiredEarly { possible_at: now() + TimeDelta::hours(hours) });
    let expires = |order: &ClaimedOrder| suspicion(order, answered(expired()));
    // Its age is unknown: it may be an old order, fed late.
    assert_eq!(expires(&ClaimedOrder { enqueued_at: now(), ..never_fetched() }), None);
    assert_eq!(expires(&ClaimedOrder { enqueued_at: now() - TimeDelta::hours(23), ..read_before(1, true) }), None);
    assert_eq!(expires(&ClaimedOrder { completed_at: at(23), ..never_fetched() }), early(1));
    assert_eq!(expires(&ClaimedOrder { completed_at: at(25), last_message_at: at(1), ..never_fetched() }), None);
    assert_eq!(expires(&ClaimedOrder { last_message_at: at(23), ..read_before(1, true) }), early(1));
    let from_the_future =
        ClaimedOrder { last_message_at: Some(now() + TimeDelta::days(9_000)), ..read_before(2, true) };
    assert_eq!(expires(&from_the_future), early(22));
    assert_eq!(expires(&ClaimedOrder { last_message_at: at(24), ..read_before(1, true) }), None);
    let full = Conversation { is_expired: Some(true), ..one_message() };
    assert_eq!(suspicion(&ClaimedOrder { last_message_at: at(1), ..read_before(1, true) }, answered(full)), None);
}

#[test]
fn a_held_result_leaves_the_order_unchanged_and_is_checked_after_growing_waits() {
    let id_space = IdSpace { api: "https://x/".into(), retailer_id: "".into(), ids_internal: false };
    let mut order = ClaimedOrder { failures: 2, counted_failures: 1, ..read_before(1, true) };
    for (times, hours) in [(1, 1), (2, 6), (3, 24), (4, 24)] {
        let settled = settle_now(&order, Outcome::NotFound);
        let held = settled.hold(&order, Suspicion::Vanished, &id_space);
        assert_eq!((held.queue.state, held.verdict, held.outcome()), (OrderState::Open, Verdict::Held, "held"));
        assert_eq!(
            (held.queue.failures, held.queue.counted_failures, held.queue.due_in),
            (2, 1, Duration::from_hours(hours))
        );
        assert!(held.chat.order.is_none() && held.chat.conversation.is_none() && held.queue.fetched_at.is_none());
        assert!(held.loss.is_none(), "what is not believed is not lost");
        let result = held.queue.held.expect("held");
        assert_eq!((result.kind, result.times, result.since), (HeldKind::Closed, times, now()));
        order.held = Some(result);
    }
    order.held.as_mut().expect("held").since -= TimeDelta::hours(3);
    let again = settle_now(&order, Outcome::NotFound).hold(&order, Suspicion::Vanished, &id_space);
    assert_eq!(again.queue.held.map(|held| held.since), Some(now() - TimeDelta::hours(3)), "as it was first seen");
    // An expiry is checked again as soon as it is possible.
    let early = Suspicion::ExpiredEarly { possible_at: now() + TimeDelta::minutes(10) };
    let held = settle_now(&order, answered(expired())).hold(&order, early, &id_space);
    assert_eq!(held.queue.due_in, Duration::from_mins(10));
    assert_eq!(
        held.queue.held.map(|held| (held.kind, held.times)),
        Some((HeldKind::Expired, 1)),
        "another kind begins anew"
    );
    // A failure keeps the held result; a good read ends it.
    assert!(settle_now(&order, Outcome::Same).queue.held.is_none());
}

#[test]
fn a_believed_result_counts_from_when_it_was_first_seen() {
    let held = |kind| {
        Some(HeldResult { kind, since: now() - TimeDelta::hours(20), times: 3, id_space: "somewhere".to_owned() })
    };
    let order = ClaimedOrder { held: held(HeldKind::Expired), ..read_before(30, true) };
    let settled = settle_now(&order, answered(expired()));
    assert_eq!(settled.queue.expired_at, Some(now() - TimeDelta::hours(20)));
    assert_eq!(settled.chat.order.map(|order| order.coverage), Some(Coverage::Captured));
    for kind in [HeldKind::Closed, HeldKind::NotFoundUncoded] {
        let order = ClaimedOrder { held: held(kind), ..read_before(30, true) };
        let closed = confirm(&order, now(), &policy()).and_then(|settled| settled.chat.order).expect("closed");
        assert_eq!((closed.status, closed.closed_at), (OrderState::Closed, Some(now() - TimeDelta::hours(20))));
    }
    let refused = ClaimedOrder { held: held(HeldKind::Refused), ..never_fetched() };
    assert_eq!(confirm(&refused, now(), &policy()).map(|settled| settled.queue.state), Some(OrderState::Dead));
    assert!(confirm(&never_fetched(), now(), &policy()).is_none());
}

#[test]
fn the_history_names_each_attempts_end_in_one_word() {
    let outcome_of = |order: &ClaimedOrder, outcome| {
        let settled = settle_now(order, outcome);
        (settled.outcome(), settled.attempt.http_status)
    };
    let fault = Fault::new("$.chat_messages[1]", "", b"");
    let in_part = Conversation { faults: vec![fault], ..one_message() };
    assert_eq!(outcome_of(&never_fetched(), answered(one_message())), ("read", Some(200)));
    assert_eq!(outcome_of(&read_before(1, true), answered(one_message())), ("unchanged", Some(200)));
    assert_eq!(outcome_of(&read_before(1, true), answered(Conversation::default())), ("unchanged", Some(200)));
    let known = ClaimedOrder { content_hash: Some(in_part.content_hash()), ..read_before(1, true) };
    assert_eq!(outcome_of(&known, answered(in_part.clone())), ("partly_understood", Some(200)), "nothing new, but why");
    assert_eq!(outcome_of(&never_fetched(), answered(in_part.clone())), ("partly_understood", Some(200)));
    let expired_in_part = Conversation { is_expired: Some(true), ..in_part };
    assert_eq!(outcome_of(&never_fetched(), answered(expired_in_part)), ("expired", Some(200)));
    assert_eq!(outcome_of(&never_fetched(), Outcome::NotFound), ("closed", Some(404)));
}

#[test]
fn a_completely_decoded_reply_is_recognised_the_next_time() {
    let speaking = || Conversation { is_expired: Some(false), ..one_message() };
    let remembered = |order: &ClaimedOrder, conversation| settle_now(order, answered(conversation)).queue.reply_hash;
    assert_eq!(remembered(&never_fetched(), speaking()), Some(vec![7]));
    let known = ClaimedOrder { reply_hash: Some(vec![6]), ..read_before(1, true) };
    assert_eq!(remembered(&known, speaking()), Some(vec![7]));
    // The same bytes may mean something else the next time.
    assert_eq!(remembered(&known, one_message()), None, "silent about expiry: later it settles the order");
    let in_part = Conversation { faults: vec![Fault::new("$.metadata", "no", b"5")], ..speaking() };
    assert_eq!(remembered(&known, in_part), None, "with a value left out");
    let emptied = Conversation { messages: Vec::new(), ..speaking() };
    assert_eq!(remembered(&known, emptied), None, "emptied");
    // Nothing was decoded.
    assert_eq!(settle_now(&known, Outcome::NotFound).queue.reply_hash, Some(vec![6]));
}

#[test]
fn the_same_reply_again_is_a_good_read_without_changes() {
    let known = ClaimedOrder { reply_hash: Some(vec![7]), failures: 3, ..read_before(1, true) };
    assert!(known.knows(&[7]) && !known.knows(&[8]));
    let settled = settle_now(&known, Outcome::Same);
    assert_eq!((settled.outcome(), settled.attempt.http_status), ("unchanged", Some(200)));
    assert_eq!(
        (settled.queue.state, settled.verdict, settled.queue.failures),
        (OrderState::Open, Verdict::Unchanged, 0)
    );
    assert_eq!((settled.queue.fetched_at, settled.queue.reply_hash), (Some(now()), Some(vec![7])));
    assert_eq!((settled.queue.content_hash, settled.chat.order), (None, None));
    let put_back = ClaimedOrder { content_hash: None, ..known };
    assert!(!put_back.knows(&[7]), "whatever became of its rows, the reply is to be written again");
}
