//! Tests replies in both formats: good, partly good and bad.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::message::MESSAGE_FIELDS;
use super::metadata::MAX_SHOPPERS;
use super::*;
use crate::connect::text::says_nothing;
use crate::domain::ChatUser;

fn decoded(reply: &Value) -> Conversation {
    decode(reply.to_string().as_bytes()).expect("a conversation")
}

fn paths(conversation: &Conversation) -> Vec<&str> {
    conversation.faults.iter().map(|fault| fault.path.as_str()).collect()
}

fn message(fields: &Value) -> Conversation {
    decoded(&json!({ "chat_messages": [fields] }))
}

fn message_text(json: &str) -> Conversation {
    decode(format!(r#"{{"chat_messages":[{json}]}}"#).as_bytes()).expect("a conversation")
}

fn carefully(json: &str) -> Result<Conversation, Fault> {
    decode_carefully(json, json.as_bytes(), false)
}

/// Returns the unknown and the unreadable fields of the first message.
fn extra(conversation: &Conversation) -> String {
    conversation.messages[0].extra.as_ref().expect("unknown fields").json().get().to_owned()
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
    for unreadable in [json!("yesterday"), json!("2021-01-01T00:00:00"), json!(1_609_459_200), json!({"at": 1})] {
        let read = message(&json!({"id": 1, "body": "a", "read_at": unreadable}));
        let message = &read.messages[0];
        assert_eq!(
            (message.read_at, &message.unreadable, message.body.as_deref()),
            (None, &vec!["read_at"], Some("a"))
        );
        assert_eq!(extra(&read), json!({"read_at": unreadable}).to_string());
        assert!(read.faults.is_empty());
    }
}

#[test]
fn values_of_another_type_are_read_where_only_one_can_be_meant() {
    let documented = json!({
        "id": 9_007_199_254_740_993_i64, "order_id": 5, "created_at": "2021-01-01T00:00:00Z", "sender_id": 2,
        "sender_type": "user", "recipient_id": 3, "recipient_type": "driver", "read": true, "body": "5",
        "read_at": null, "image": null,
    });
    let another = r#"{"id":"9007199254740993","order_id":5.0,"created_at":"2021-01-01 00:00:00+0000","sender_id":" 2 ",
        "sender_type":"user","recipient_id":"3","recipient_type":"driver","read":"True","body":5,"read_at":"","image":""}"#;
    assert_eq!(message_text(another), message(&documented));
    assert_eq!(message_text(another).content_hash(), message(&documented).content_hash());
    let users = |id: Value, name: Value| decoded(&json!({"metadata": {"customer": {"id": id, "display_name": name}}}));
    assert_eq!(users(json!("7"), json!(7)), users(json!(7), json!("7")));
}

#[test]
fn an_unreadable_field_does_not_affect_the_others() {
    let good = json!({
        "id": 1, "order_id": 5, "created_at": "2021-01-01T00:00:00Z", "sender_id": 2, "sender_type": "user",
        "recipient_id": 3, "recipient_type": "driver", "read": true, "read_at": "2021-01-01T00:00:09Z", "body": "a",
        "image": "i.jpg", "mood": "good",
    });
    let long = "x".repeat(129);
    let odd = [json!({"url": "x"}), json!(["x"]), json!([]), json!(1.5), json!(true), json!("2020-13-01"), json!(long)];
    let mut spoilt = 0;
    for name in MESSAGE_FIELDS.into_iter().filter(|name| *name != "id") {
        for value in &odd {
            let mut fields = good.clone();
            fields[name] = value.clone();
            let read = message(&fields);
            assert!(read.faults.is_empty(), "{name}: {value}: {:?}", read.faults);
            let message = &read.messages[0];
            if message.unreadable.is_empty() {
                continue;
            }
            spoilt += 1;
            assert_eq!(message.unreadable, [name], "{value}");
            let mut without = good.clone();
            without[name] = Value::Null;
            let expected = &self::message(&without).messages[0];
            let kept = serde_json::from_str::<Value>(&extra(&read)).expect("JSON");
            assert_eq!(kept, json!({"mood": "good", name: value}));
            let rest = Message { extra: expected.extra.clone(), unreadable: Vec::new(), ..message.clone() };
            assert_eq!(&rest, expected, "{name}: {value}");
            assert_ne!(read.content_hash(), self::message(&without).content_hash());
        }
    }
    assert!(spoilt > 45, "{spoilt}");
}

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
fn a_name_that_is_not_unicode_does_not_affect_other_fields() {
    let read =
        decode(br#"{"\ud83d":1,"chat_messages":[{"id":1,"body":"a","mood \ud83d":5}],"metadata":{"\udead":{}}}"#);
    let read = read.expect("a conversation");
    assert!(read.faults.is_empty() && read.messages[0].is_altered);
    assert!(extra(&read).starts_with("{\"mood \u{fffd}") && extra(&read).ends_with("\":5}"), "{}", extra(&read));
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
    assert_eq!(extra(&read), json!({"mood": {"a": [1, "x", null]}, "seen": null}).to_string());
    assert!(!read.messages[0].is_altered);
}

#[test]
fn numbers_of_unknown_fields_keep_every_digit() {
    let fields = r#"{"a":123456789012345678901234567890,"b":[0.1000000000000000055511151231257827,-0,1e308],"c":1.0}"#;
    let read = message_text(&fields.replacen('{', r#"{"id":1,"#, 1));
    assert_eq!(extra(&read), fields);
    assert!(!read.messages[0].is_altered);
}

#[test]
fn unknown_fields_give_the_same_text_in_any_order() {
    let one = message_text(r#"{"id":1,"b":{"y":1,"x":[2, {}]},"a":"\u00e9\/","a":"é/"}"#);
    let other = message_text(r#"{"a":"é/","id":1,"b":{"x":[2,{}],"y":0,"y":1}}"#);
    assert_eq!(extra(&one), r#"{"a":"é/","b":{"x":[2,{}],"y":1}}"#);
    assert_eq!(one, other);
    assert_eq!(one.content_hash(), other.content_hash());
}

#[test]
fn extra_values_that_cannot_be_stored_are_kept_as_text() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let fields = r#""huge":1e999,"nul\u0000":"a\u0000","not deep":"\\\"[[[[[[[[[[[[[[[[[[[[""#;
    let reply = format!(r#"{{"chat_messages":[{{"id":1,"deep":{deep},{fields}}}]}}"#);
    let read = decode(reply.as_bytes()).expect("a conversation");
    let extra: Value = serde_json::from_str(&extra(&read)).expect("JSON");
    assert_eq!(extra["deep"], Value::String(deep));
    assert_eq!(extra["not deep"], Value::String(r#"\"[[[[[[[[[[[[[[[[[[[["#.into()));
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

    #[test]
    fn the_quick_decoder_agrees_with_the_careful_one(at in 0_usize..1_000, byte in any::<u8>(), ids in [0_i64..4, 0..4, 0..4]) {
        let mut reply = usual_reply(ids).into_bytes();
        let at = at % reply.len();
        reply[at] = byte;
        if let Some(read) = std::str::from_utf8(&reply).ok().and_then(quick::decode) {
            let carefully = carefully(std::str::from_utf8(&reply).expect("as before"));
            prop_assert_eq!(Ok(read), carefully);
        }
    }
}

#[test]
fn a_regular_reply_is_read_in_one_pass() {
    let reply = usual_reply([1, 3, 2]);
    assert_eq!(quick::decode(&reply), carefully(&reply).ok());
    for unusual in
        [usual_reply([1, 2, 1]), reply.replace("\"read\"", "\"id\""), reply.replace("[{", "[7,{"), reply + "x"]
    {
        assert_eq!(quick::decode(&unusual), None);
    }
}

#[test]
fn the_quick_decoder_takes_no_more_fields_than_the_careful_one() {
    for (others, is_read) in [(999, true), (1_000, false)] {
        let others = (0..others).map(|index| format!(r#","f{index}":0"#)).collect::<Vec<_>>().concat();
        let reply = format!(r#"{{"chat_messages":[]{others}}}"#);
        assert_eq!((quick::decode(&reply).is_some(), carefully(&reply).is_ok()), (is_read, is_read));
    }
}

#[test]
fn the_quick_decoder_reads_any_value_as_the_careful_one_or_not_at_all() {
    let long = format!("\"{}\"", "x".repeat(129));
    let values = [
        "null",
        "true",
        "1",
        "-0",
        "1.0",
        "1e2",
        "9223372036854775807",
        "9223372036854775808",
        "\"\"",
        "\"a\"",
        "\"user\"",
        r#""\u0000""#,
        r#""\ud83d""#,
        r#""\ud83d\ude00""#,
        "\"2021-01-01T00:00:00Z\"",
        "\"2021-01-01 00:00:00+0000\"",
        "\"2021-01-01T00:00:00\"",
        "\"true\"",
        "\"5\"",
        "5.0",
        "5.5",
        r#""2021-01-01T00:00:00\u005a""#,
        "{}",
        "[]",
        &long,
    ];
    let mut read_quickly = 0;
    for name in MESSAGE_FIELDS.into_iter().chain(["new", r"i\u0064"]) {
        for (value, other) in values.iter().flat_map(|value| values.map(|other| (*value, other))) {
            let fields = format!(r#""id":7,"{name}":{value},"{name}":{other}"#);
            let without_id = fields.replace("\"id\":7,", "");
            for message in [fields, without_id] {
                let reply = format!(r#"{{"chat_messages":[{{{message}}}]}}"#);
                if let Some(read) = quick::decode(&reply) {
                    assert_eq!(Ok(read), carefully(&reply), "{reply}");
                    read_quickly += 1;
                }
            }
        }
    }
    assert!(read_quickly > 400, "only {read_quickly}");
}

fn usual_reply(ids: [i64; 3]) -> String {
    let [first, second, third] = ids;
    format!(
        r#"{{"chat_messages":[{{"id":{first},"order_id":5,"created_at":"2021-01-01T00:00:00Z","sender_id":2,"sender_type":"user",
        "recipient_id":3,"recipient_type":"driver","read":true,"read_at":"2021-01-01T00:00:09Z","body":"a \u00e9\n","image":""}},
        {{"id":{second},"body":null,"new":{{"a":[1]}}}},{{"id":{third},"read":false}}],
        "is_expired":false,"metadata":{{"customer":{{"id":2,"display_name":"C","avatar_url":""}},"shoppers":[{{"id":3}},null]}}}}"#
    )
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
