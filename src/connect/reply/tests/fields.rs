//! The fields of a message: known, unknown and unreadable.

use super::*;

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
    for name in MESSAGE_FIELDS.iter().copied().filter(|name| *name != "id") {
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
fn a_name_that_is_not_unicode_does_not_affect_other_fields() {
    let read =
        decode(br#"{"\ud83d":1,"chat_messages":[{"id":1,"body":"a","mood \ud83d":5}],"metadata":{"\udead":{}}}"#);
    let read = read.expect("a conversation");
    assert!(read.faults.is_empty() && read.messages[0].is_altered);
    assert!(extra(&read).starts_with("{\"mood \u{fffd}") && extra(&read).ends_with("\":5}"), "{}", extra(&read));
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
