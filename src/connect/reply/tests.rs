//! Replies of both ages, good, half good and bad.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn decoded(reply: &Value) -> Conversation {
    decode(reply.to_string().as_bytes()).expect("a conversation")
}

fn paths(conversation: &Conversation) -> Vec<&str> {
    conversation.faults.iter().map(|fault| fault.path.as_str()).collect()
}

fn message(fields: &Value) -> Conversation {
    decoded(&json!({ "chat_messages": [fields] }))
}

#[test]
fn ids_are_64_bit() {
    let read = message(&json!({"id": i64::MAX, "order_id": i64::MIN, "sender_id": 9_007_199_254_740_993_i64}));
    let message = &read.messages[0];
    assert_eq!((message.id, message.instacart_order_id), (i64::MAX, Some(i64::MIN)));
    assert_eq!(message.sender_id, Some(9_007_199_254_740_993));
    let too_large = decode(br#"{"chat_messages":[{"id":9223372036854775808}]}"#).expect("a conversation");
    assert_eq!(paths(&too_large), ["$.chat_messages[0].id"]);
}

#[test]
fn times_have_any_offset_and_fraction() {
    for (text, utc) in [
        ("2021-01-01T00:00:00Z", "2021-01-01T00:00:00+00:00"),
        ("2021-01-01T00:00:00.123456789-07:30", "2021-01-01T07:30:00.123456789+00:00"),
        ("2021-12-31T23:59:59.5+14:00", "2021-12-31T09:59:59.500+00:00"),
    ] {
        let created_at = message(&json!({"id": 1, "created_at": text})).messages[0].created_at;
        assert_eq!(created_at.map(|time| time.to_rfc3339()).as_deref(), Some(utc));
    }
    assert_eq!(message(&json!({"id": 1, "read_at": ""})).messages[0].read_at, None);
    assert_eq!(paths(&message(&json!({"id": 1, "read_at": "yesterday"}))), ["$.chat_messages[0].read_at"]);
}

#[test]
fn all_but_the_id_may_be_missing_or_null() {
    let bare = message(&json!({"id": 7}));
    let nulls: serde_json::Map<String, Value> = MESSAGE_FIELDS
        .iter()
        .map(|name| ((*name).to_owned(), if *name == "id" { 7.into() } else { Value::Null }))
        .collect();
    assert_eq!(bare, message(&Value::Object(nulls)));
    assert_eq!(bare.messages[0].extra, None);
    let users = decoded(&json!({"metadata": {"customer": {}, "current_shopper": null, "shoppers": [null, {"id": 5}]}}));
    assert_eq!(users.metadata.customer, None);
    assert_eq!(users.metadata.shoppers, [ChatUser { id: 5, display_name: None, avatar_url: None }]);
    assert!(users.faults.is_empty());
}

#[test]
fn unknown_fields_and_types_are_kept() {
    let read = message(&json!({"id": 1, "sender_type": "bot", "mood": {"a": [1, "x", null]}, "seen": null}));
    assert_eq!(read.messages[0].sender_type.as_ref().map(UserType::as_str), Some("bot"));
    assert_eq!(
        read.messages[0].extra.clone().map(Value::Object),
        Some(json!({"mood": {"a": [1, "x", null]}, "seen": null}))
    );
    assert!(!read.messages[0].is_altered);
}

#[test]
fn extra_values_that_cannot_be_stored_are_kept_as_text() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let reply = format!(r#"{{"chat_messages":[{{"id":1,"deep":{deep},"huge":1e999,"nul\u0000":"a\u0000"}}]}}"#);
    let read = decode(reply.as_bytes()).expect("a conversation");
    let extra = read.messages[0].extra.as_ref().expect("extra fields");
    assert_eq!(extra["deep"], Value::String(deep));
    assert_eq!(extra["huge"], Value::String("1e999".into()));
    assert_eq!(extra["nul\u{fffd}"], Value::String("a\u{fffd}".into()));
    assert!(read.messages[0].is_altered);
}

#[test]
fn expiry_is_found_at_both_places_and_absent_is_not_false() {
    let expiry = |reply: Value| decoded(&reply).is_expired;
    assert_eq!(expiry(json!({"is_expired": true, "chat_messages": []})), Some(true));
    assert_eq!(expiry(json!({"metadata": {"is_expired": true}})), Some(true));
    assert_eq!(expiry(json!({"is_expired": false, "metadata": {"is_expired": true}})), Some(true));
    assert_eq!(expiry(json!({"is_expired": false})), Some(false));
    assert_eq!(expiry(json!({"is_expired": null, "chat_messages": []})), None);
    assert_eq!(expiry(json!({"chat_messages": [], "metadata": {}})), None);
}

#[test]
fn a_bad_part_costs_nothing_but_itself() {
    let read = decoded(&json!({
        "chat_messages": [{"id": 1}, {"body": "no id"}, 5, {"id": "6"}, {"id": 2, "read": "yes"}, {"id": 3}],
        "metadata": {"customer": {"id": 1}, "current_shopper": "Bob", "shoppers": [{"display_name": "x"}, {"id": 4}]},
    }));
    assert_eq!(
        read.messages.iter().map(|message| (message.id, message.position)).collect::<Vec<_>>(),
        [(1, 0), (3, 5)]
    );
    assert_eq!(
        paths(&read),
        [
            "$.chat_messages[1].id",
            "$.chat_messages[2]",
            "$.chat_messages[3].id",
            "$.chat_messages[4].read",
            "$.metadata.current_shopper",
            "$.metadata.shoppers[0].id",
        ]
    );
    assert_eq!(read.faults[0].body, r#"{"body":"no id"}"#);
    assert_eq!(read.metadata.shoppers.len(), 1);
    assert_eq!(read.metadata.customer.map(|customer| customer.id), Some(1));
}

#[test]
fn reasons_tell_kinds_not_values() {
    let read = message(&json!({"id": "SECRET", "body": 5}));
    assert_eq!(read.faults[0].reason, "expected a string, found a number that does not fit");
    let read = message(&json!({"id": "SECRET"}));
    assert_eq!(read.faults[0].reason, "expected a 64-bit integer, found a string");
}

#[test]
fn a_message_twice_is_one_and_a_contradiction_is_kept_aside() {
    let same = decoded(&json!({"chat_messages": [{"id": 1, "body": "a"}, {"id": 1, "body": "a"}]}));
    assert_eq!((same.messages.len(), same.faults.len()), (1, 0));
    let other = decoded(&json!({"chat_messages": [{"id": 1, "body": "a"}, {"id": 1, "body": "b"}]}));
    assert_eq!(other.messages[0].body.as_deref(), Some("a"));
    assert_eq!(paths(&other), ["$.chat_messages[1].id"]);
}

#[test]
fn what_is_no_conversation_is_refused_as_a_whole() {
    for (body, reason) in [
        ("", "not JSON"),
        ("<html>", "not JSON"),
        ("{\"chat_messages\":[{\"id\":1}", "not JSON"),
        ("[]", "expected an object, found a list"),
        ("{}", "no conversation"),
        ("{\"error\":{\"code\":1}}", "no conversation"),
        ("{\"chat_messages\":{}}", "expected a list, found an object"),
    ] {
        let fault = decode(body.as_bytes()).expect_err("no conversation");
        assert!(fault.reason.starts_with(reason), "{body}: {}", fault.reason);
        assert_eq!(fault.body, body);
    }
    let fault = decode(b"{\"chat_messages\":[],\"x\":\"\xff\"}").expect_err("not UTF-8");
    assert_eq!((fault.reason.as_str(), fault.body.contains("\\xff")), ("not UTF-8 from byte 26 on", true));
}

#[test]
fn the_hash_sees_every_stored_fact_and_nothing_else() {
    let base = json!({"chat_messages": [{"id": 1, "body": "a", "read": false}], "metadata": {"customer": {"id": 2}}});
    let hash = |reply: &Value| decoded(reply).content_hash();
    let mut read = base.clone();
    read["chat_messages"][0]["read"] = true.into();
    let mut named = base.clone();
    named["metadata"]["customer"]["display_name"] = "x".into();
    let mut renamed = base.clone();
    renamed["metadata"]["unknown"] = 5.into();
    assert_ne!(hash(&base), hash(&read));
    assert_ne!(hash(&base), hash(&named));
    assert_eq!(hash(&base), hash(&renamed));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn any_json_around_a_good_message_leaves_it_whole(junk in ".{0,40}") {
        let reply = format!(r#"{{"chat_messages":[{},{{"id":42}}]}}"#, json!(junk));
        let read = decode(reply.as_bytes()).expect("a conversation");
        prop_assert_eq!(read.messages.len(), 1);
        prop_assert_eq!(read.faults.len(), 1);
    }

    #[test]
    fn a_broken_reply_never_panics(at in 0_usize..400, byte in any::<u8>()) {
        let reply = json!({
            "chat_messages": [{"id": 1, "created_at": "2021-01-01T00:00:00Z", "body": "a\u{0}😀", "sender_type": "user"}],
            "metadata": {"customer": {"id": 2, "display_name": "x", "avatar_url": ""}, "shoppers": []},
        });
        let mut bytes = reply.to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = decode(&bytes);
    }
}
