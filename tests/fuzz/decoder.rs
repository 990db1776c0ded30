//! Replies: checks `connect::decode` against `serde_json`'s own tree of the same bytes.

use std::collections::HashSet;

use chatsync::connect::decode;
use chatsync::domain::{Conversation, Fault, Message, UserType};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::corpus::replies;
use crate::fuzz;

/// The documented fields of a message.
const KNOWN: [&str; 11] = [
    "id",
    "order_id",
    "created_at",
    "recipient_id",
    "recipient_type",
    "sender_id",
    "sender_type",
    "read",
    "read_at",
    "body",
    "image",
];

#[test]
fn every_element_of_a_reply_is_stored_or_explained() {
    fuzz("decoder", 4_000, &replies(), check);
}

fn check(reply: &[u8]) {
    let decoded = decode(reply);
    assert_eq!(decoded, decode(reply), "twice the same bytes");
    match &decoded {
        Ok(conversation) => {
            assert_eq!(conversation.content_hash(), decode(reply).expect("as before").content_hash());
            check_conversation(conversation, reply);
        }
        Err(fault) => {
            check_fault(fault, reply.len());
            assert_eq!(fault.body_bytes(), reply.len(), "all of it is kept aside");
            assert!(fault.path == "$" || fault.path == "$.chat_messages", "{fault}");
            assert!(!is_conversation(reply), "refused as a whole: {fault}");
        }
    }
}

/// Returns whether a reply certainly is a conversation.
fn is_conversation(reply: &[u8]) -> bool {
    let Ok(Value::Object(root)) = serde_json::from_slice(reply) else { return false };
    let is_list = |name: &str| root.get(name).is_none_or(|list| list.is_array() || list.is_null());
    let is_known = ["chat_messages", "metadata", "is_expired"].iter().any(|name| root.contains_key(*name));
    // serde_json's tree has no limit for the number of fields; ours counts repeated names as well.
    let may_be_too_much = reply.split(|byte| *byte == b',').count() > 1_000;
    is_known && is_list("chat_messages") && !may_be_too_much
}

fn check_conversation(conversation: &Conversation, reply: &[u8]) {
    // In a reply that is not UTF-8, each invalid byte is replaced by U+FFFD, which has three bytes.
    let most = if std::str::from_utf8(reply).is_ok() { reply.len() } else { 3 * reply.len() };
    for fault in &conversation.faults {
        check_fault(fault, most);
    }
    let mut ids = HashSet::new();
    for message in &conversation.messages {
        assert!(ids.insert(message.id), "message {} twice", message.id);
        check_texts(message);
    }
    for user in conversation.metadata.all_shoppers().chain(&conversation.metadata.customer) {
        for text in [&user.display_name, &user.avatar_url].into_iter().flatten() {
            assert!(!text.contains('\0'));
        }
    }
    let Some(elements) = elements(reply) else { return };
    let place = |fault: &Fault| {
        let index = fault.path.strip_prefix("$.chat_messages[")?.split(']').next()?;
        Some(index.parse::<usize>().expect("an index"))
    };
    let left_out: HashSet<usize> = conversation.faults.iter().filter_map(place).collect();
    let mut messages = conversation.messages.iter().peekable();
    for (index, element) in elements.iter().enumerate() {
        let message = messages.next_if(|message| usize::try_from(message.position) == Ok(index));
        match (message, left_out.contains(&index)) {
            (Some(_), true) => panic!("element {index} is stored and left out"),
            (Some(message), false) => check_message(message, element),
            (None, true) => {}
            // A repeated message.
            (None, false) => {
                let alone = decode(format!(r#"{{"chat_messages":[{}]}}"#, element.get()).as_bytes());
                let alone = alone.expect("a conversation").messages.pop().expect("a good message");
                let earlier =
                    conversation.messages.iter().find(|message| message.id == alone.id).expect("an earlier message");
                assert_eq!(Message { position: earlier.position, ..alone }, *earlier);
            }
        }
    }
    assert_eq!(messages.next(), None, "a message that is no element");
}

fn check_fault(fault: &Fault, most: usize) {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "$.[]_".contains(c);
    assert!(fault.path.starts_with('$') && fault.path.chars().all(is_path) && fault.path.len() < 64, "{fault}");
    // Reasons are our own texts: a text of the reply would be longer or contain other characters.
    assert!(fault.reason.is_ascii() && fault.reason.len() < 100, "{fault}");
    assert!(fault.body().len() <= Fault::MAX_BODY_BYTES && fault.body_bytes() <= most);
    assert!(!fault.body().contains('\0'));
}

/// Asserts that PostgreSQL accepts every text of a message.
fn check_texts(message: &Message) {
    let types = [&message.sender_type, &message.recipient_type].into_iter().flatten().map(UserType::as_str);
    let texts = [&message.body, &message.image_url].into_iter().flatten().map(|text| &**text);
    for text in types.clone().chain(texts) {
        assert!(!text.contains('\0'));
    }
    assert!(types.clone().all(|name| name.len() <= 128));
    if let Some(extra) = &message.extra {
        let text = extra.json().get();
        let value: Value = serde_json::from_str(text).expect("what is stored is JSON that is not too deep");
        assert!(value.is_object() && !has_nul(&value) && !text.contains("\\u0000"));
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// Returns the elements of `chat_messages`, found in another way.
fn elements(reply: &[u8]) -> Option<Vec<Box<RawValue>>> {
    #[derive(Deserialize)]
    struct Root {
        #[serde(default)]
        chat_messages: Option<Vec<Box<RawValue>>>,
    }
    // Fails if the name is repeated.
    let root: Root = serde_json::from_slice(reply).ok()?;
    Some(root.chat_messages.unwrap_or_default())
}

/// Asserts that a message equals its JSON, as far as `serde_json`'s tree can hold it and nothing was replaced.
fn check_message(message: &Message, element: &RawValue) {
    let Ok(Value::Object(said)) = serde_json::from_str(element.get()) else { return };
    let value = |field: &str| said.get(field).filter(|value| !value.is_null());
    // Fields of undocumented types are checked by other tests.
    let is_read_as = |field: &str, is_same: bool, is_documented: bool, is_none: bool| {
        let is_unreadable = message.unreadable.contains(&field);
        assert!(!is_documented || (is_same && !is_unreadable), "{field} of {message:?}");
        assert!(is_documented || is_none || !is_unreadable, "{field} of {message:?}");
        let is_said = value(field).is_some_and(|value| value != "");
        assert!(is_said || is_none, "{field} of {message:?}: nothing was said");
        assert!(!is_said || !is_none || is_unreadable, "{field} of {message:?}: not noted");
    };
    for (field, read) in [
        ("id", Some(message.id)),
        ("order_id", message.instacart_order_id),
        ("sender_id", message.sender_id),
        ("recipient_id", message.recipient_id),
    ] {
        let integer = value(field).and_then(Value::as_i64);
        is_read_as(field, integer == read, integer.is_some(), read.is_none());
    }
    let truth = value("read").and_then(Value::as_bool);
    is_read_as("read", truth == message.is_read, truth.is_some(), message.is_read.is_none());
    for (field, read) in [("created_at", message.created_at), ("read_at", message.read_at)] {
        let time = value(field).and_then(Value::as_str);
        let time = time.and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|time| time.to_utc());
        is_read_as(field, time == read, time.is_some(), read.is_none());
    }
    if message.is_altered {
        return;
    }
    let types = [&message.sender_type, &message.recipient_type].map(|name| name.as_ref().map(UserType::as_str));
    for (field, read) in
        [("image", message.image_url.as_deref()), ("sender_type", types[0]), ("recipient_type", types[1])]
    {
        let text = value(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let is_documented = text.is_some_and(|text| field == "image" || text.len() <= 128);
        is_read_as(field, text == read, is_documented, read.is_none());
    }
    if let Some(Value::String(body)) = value("body") {
        assert_eq!(message.body.as_deref(), Some(body.as_str()));
    }
    let is_kept = |name: &str| !KNOWN.contains(&name) || message.unreadable.contains(&name);
    let kept: Map<String, Value> =
        said.iter().filter(|(name, _)| is_kept(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let extra = message.extra.as_ref().map(|extra| serde_json::from_str(extra.json().get()).expect("JSON"));
    assert_eq!(extra.unwrap_or_else(|| Value::Object(Map::new())), Value::Object(kept));
}
