//! Replies as a whole: users, expiry, faults, limits.

use super::*;
use crate::connect::reply::metadata::MAX_SHOPPERS;
use crate::connect::text::says_nothing;

#[test]
fn a_chat_user_keeps_all_fields_that_can_be_read() {
    let read = decoded(&json!({"chat_messages": [], "metadata": {
        "customer": {"id": "2", "display_name": {"first": "A"}, "avatar_url": "a.jpg"},
        "current_shopper": {"id": null, "display_name": null, "avatar_url": null},
        "shoppers": [{"id": 3, "avatar_url": 5}, [], "", {}, {"id": "no"}],
    }}));
    let customer = ChatUser { id: 2, display_name: None, avatar_url: Some("a.jpg".to_owned()) };
    assert_eq!(read.metadata.customer, Some(customer));
    assert_eq!(read.metadata.current_shopper, None);
    assert_eq!(read.metadata.shoppers, [ChatUser { id: 3, display_name: None, avatar_url: None }]);
    assert_eq!(
        paths(&read),
        ["$.metadata.customer.display_name", "$.metadata.shoppers[0].avatar_url", "$.metadata.shoppers[4].id"]
    );
    assert_eq!(read.faults[0].body(), r#"{"first":"A"}"#);
    assert_eq!((read.messages_left_out(), read.hides_expiry()), (0, false));
}

#[test]
fn an_object_without_fields_may_be_written_as_an_empty_list() {
    for metadata in ["[]", "[ ]", "\"\"", "null", "{}", r#"{"customer":[],"current_shopper":"","shoppers":[[],""]}"#] {
        let read = decode(format!(r#"{{"chat_messages":[],"metadata":{metadata}}}"#).as_bytes());
        assert_eq!(read.as_ref(), Ok(&Conversation::default()), "{metadata}");
    }
    let hidden = decoded(&json!({"chat_messages": [], "metadata": [{"is_expired": true}]}));
    assert!(hidden.hides_expiry());
}

#[test]
fn bytes_that_are_no_utf8_cost_no_message() {
    let reply =
        b"{\"chat_messages\":[{\"id\":1,\"body\":\"caf\xe9\"},{\"id\":2,\"body\":\"fine\"}],\"is_expired\":false}";
    let read = decode(reply).expect("a conversation");
    let texts: Vec<_> = read.messages.iter().map(|message| (message.body.as_deref(), message.is_altered)).collect();
    assert_eq!(texts, [(Some("caf\u{fffd}"), true), (Some("fine"), false)]);
    assert_eq!((paths(&read), read.messages_left_out(), read.hides_expiry()), (vec!["$"], 0, false));
    assert!(read.faults[0].body().contains(r"caf\xe9"), "kept as it came");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    for reply in [usual_reply([1, 2, 3]), json!({"chat_messages": [{"id": "1"}]}).to_string()] {
        assert_eq!(decode(format!("\u{feff}{reply}").as_bytes()), decode(reply.as_bytes()));
    }
    let fault = decode("\u{feff}<html>".as_bytes()).expect_err("no JSON");
    assert_eq!(fault.body_bytes(), 9, "kept as it came");
}

#[test]
fn an_empty_body_is_distinguished_from_a_bad_conversation() {
    for body in ["", " \r\n", "null", " null\n", "\"\"", "{}", "{ }\n", "[]", "\u{feff}", "\u{feff}null"] {
        assert!(says_nothing(body.as_bytes()), "{body:?}");
    }
    for body in ["0", "false", "\"x\"", "{\"a\":1}", "[[]]", "<html>", "{]", "{", "\"", "nul"] {
        assert!(!says_nothing(body.as_bytes()), "{body:?}");
    }
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
    for (said, expected) in [(json!("true"), true), (json!(1), true), (json!("FALSE"), false), (json!("0"), false)] {
        assert_eq!(expiry(json!({"is_expired": said, "chat_messages": []})), Some(expected), "{said}");
        assert_eq!(expiry(json!({"metadata": {"is_expired": said}})), Some(expected), "{said}");
    }
    for unreadable in [json!(""), json!(2), json!("soon"), json!({})] {
        let read = decoded(&json!({"is_expired": unreadable, "chat_messages": []}));
        assert_eq!((read.is_expired, read.hides_expiry(), paths(&read)), (None, true, vec!["$.is_expired"]));
    }
}

#[test]
fn a_bad_value_does_not_affect_the_rest() {
    let read = decoded(&json!({
        "chat_messages": [{"id": 1}, {"body": "no id"}, 5, {"id": "six"}, {"id": null}, {"id": 3}],
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
            "$.chat_messages[4].id",
            "$.metadata.current_shopper",
            "$.metadata.shoppers[0].id",
        ]
    );
    assert_eq!(read.messages_left_out(), 4);
    assert_eq!(read.faults[0].body(), r#"{"body":"no id"}"#);
    assert_eq!(read.metadata.shoppers.len(), 1);
    assert_eq!(read.metadata.customer.map(|customer| customer.id), Some(1));
}

#[test]
fn reasons_name_kinds_not_values() {
    let read = message(&json!({"id": 5.5}));
    assert_eq!(read.faults[0].reason, "expected a 64-bit integer, found a number that does not fit");
    let read = message(&json!({"id": "SECRET"}));
    assert_eq!(read.faults[0].reason, "expected a 64-bit integer, found a string");
}

#[test]
fn a_repeated_message_counts_once_and_a_contradiction_is_a_fault() {
    let same = decoded(&json!({"chat_messages": [{"id": 1, "body": "a"}, {"id": 1, "body": "a"}]}));
    assert_eq!((same.messages.len(), same.faults.len()), (1, 0));
    let other = decoded(&json!({"chat_messages": [{"id": 1, "body": "a"}, {"id": 1, "body": "b"}]}));
    assert_eq!(other.messages[0].body.as_deref(), Some("a"));
    assert_eq!((paths(&other), other.messages_left_out()), (vec!["$.chat_messages[1].id"], 1));
    let in_words = decoded(&json!({"chat_messages": [{"id": 1, "read": true}, {"id": "1", "read": "true"}]}));
    assert_eq!((in_words.messages.len(), in_words.faults.len()), (1, 0));
}

#[test]
fn a_body_that_is_no_conversation_is_refused_as_a_whole() {
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
        assert_eq!((fault.body(), fault.body_bytes()), (body, body.len()));
    }
    let fault = decode(b"{\"chat_messages\":[],\"x\":\"\xff}").expect_err("not UTF-8");
    assert_eq!((fault.reason.as_str(), fault.body().contains("\\xff")), ("not UTF-8 from byte 26 on", true));
}

#[test]
fn a_reply_of_more_messages_than_any_conversation_is_refused_as_a_whole() {
    let reply = |messages: usize| format!(r#"{{"chat_messages":[{}{{"id":0}}]}}"#, r#"{"id":1},"#.repeat(messages - 1));
    assert_eq!(decode(reply(MAX_MESSAGES).as_bytes()).expect("a conversation").messages.len(), 2);
    let fault = decode(reply(MAX_MESSAGES + 1).as_bytes()).expect_err("too many");
    assert_eq!(fault.to_string(), "$.chat_messages: more than 10000 entries");
    assert_eq!((fault.body().len(), fault.body_bytes()), (Fault::MAX_BODY_BYTES, reply(MAX_MESSAGES + 1).len()));
}

#[test]
fn shoppers_or_fields_beyond_the_limits_are_left_out() {
    let shoppers = vec![json!({"id": 1}); MAX_SHOPPERS + 1];
    let read =
        decoded(&json!({"chat_messages": [{"id": 1}], "metadata": {"customer": {"id": 2}, "shoppers": shoppers}}));
    assert_eq!(paths(&read), ["$.metadata.shoppers"]);
    assert_eq!((read.messages.len(), read.metadata.customer.is_some()), (1, true));
    let many = r#","unknown":0"#.repeat(1_001);
    let read = message_text(&format!(r#"{{"id":1{many}}},{{"id":2}}"#));
    assert_eq!((paths(&read), read.messages[0].id), (vec!["$.chat_messages[0]"], 2));
    assert_eq!(read.faults[0].reason, "more than 1000 fields");
    let fault = decode(format!(r#"{{"chat_messages":[]{many}}}"#).as_bytes()).expect_err("too many");
    assert_eq!(fault.to_string(), "$: more than 1000 fields");
}

#[test]
fn a_million_levels_of_nesting_are_reported_or_kept_as_text() {
    let list = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let object = format!("{}0{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    for deep in [&list, &object] {
        let message = |id: i64, field: &str| format!(r#"{{"id":{id},"{field}":{deep}}}"#);
        let messages = [message(1, "id"), message(2, "body"), message(3, "read_at"), message(4, "unknown")].join(",");
        let read =
            decode(format!(r#"{{"chat_messages":[{messages}],"is_expired":{deep},"unknown":{deep}}}"#).as_bytes());
        let read = read.expect("a conversation");
        assert_eq!(paths(&read), ["$.chat_messages[0].id", "$.is_expired"]);
        assert!(read.faults.iter().all(|fault| fault.reason.starts_with("expected ")), "{:?}", read.faults);
        assert_eq!(
            read.messages.iter().map(|message| (message.id, message.is_altered)).collect::<Vec<_>>(),
            [(2, true), (3, true), (4, true)]
        );
        for (message, field) in read.messages.iter().zip(["body", "read_at", "unknown"]) {
            let extra = message.extra.as_ref().expect("kept as text").json().get();
            assert_eq!(extra, json!({field: deep}).to_string());
            assert_eq!(message.unreadable.contains(&field), field != "unknown");
        }
    }
    let outermost =
        [decode(list.as_bytes()), decode(object.as_bytes())].map(|read| read.expect_err("nothing in it").reason);
    assert!(
        outermost[0].starts_with("expected an object") && outermost[1].starts_with("no conversation"),
        "{outermost:?}"
    );
    let list_in_list = format!(r#"{{"chat_messages":{list}}}"#);
    assert_eq!(paths(&decode(list_in_list.as_bytes()).expect("a conversation")), ["$.chat_messages[0]"]);
    let broken = decode(format!(r#"{{"chat_messages":{}"#, "[".repeat(1_000_000)).as_bytes()).expect_err("no JSON");
    assert!(broken.reason.starts_with("not JSON"), "{broken}");
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
    let bad = |body: &str| json!({"chat_messages": [{"body": body}]});
    assert_ne!(hash(&bad("a")), hash(&bad("b")), "the kept text of a bad value is stored as well");
}

#[test]
fn a_reply_with_a_damaged_name_proves_nothing() {
    for damaged in [
        &b"{\"\xffchat_messages\":[{\"id\":1,\"body\":\"a\"}],\"metadata\":{\"customer\":{\"id\":7}}}"[..],
        b"{\"\xffmetadata\":{\"is_expired\":true},\"chat_messages\":[]}",
        b"{\"chat_messages\":[],\"metadata\":{\"is_\xffexpired\":true}}",
        b"{\"chat_messages\":[],\"\xffis_expired\":true}",
    ] {
        decode(damaged).expect_err("a damaged name");
    }
}
