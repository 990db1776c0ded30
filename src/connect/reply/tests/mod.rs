//! Tests replies in both formats: good, partly good and bad.

mod decoders;
mod fields;
mod whole;

use serde_json::{Value, json};

use super::message::MESSAGE_FIELDS;
use super::*;
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

/// Returns the unknown and the unreadable fields of the first message.
fn extra(conversation: &Conversation) -> String {
    conversation.messages[0].extra.as_ref().expect("unknown fields").json().get().to_owned()
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
