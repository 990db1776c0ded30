//! Decodes a regular reply in one pass over its bytes.
//!
//! Anything irregular ends the pass without a result, and [`decode`](super::decode) reads the reply level by level, to
//! report what is wrong and keep the rest. What the fields mean is defined once for both ([`message`](super::message),
//! [`metadata`](super::metadata)). A result exists only if every value has the documented type and nothing is left out.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::message::{Fields, MAX_MESSAGES};
use super::metadata::{read_expiry, read_metadata};
use super::object::{MAX_FIELDS, Name, Object};
use crate::domain::{Conversation, Message};

/// Returns the conversation, if the reply has no fault.
pub(super) fn decode(json: &str) -> Option<Conversation> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let conversation = deserializer.deserialize_map(Root).ok()?;
    deserializer.end().ok()?;
    conversation.faults.is_empty().then_some(conversation)
}

struct Root;

impl<'de> Visitor<'de> for Root {
    type Value = Conversation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a conversation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Conversation, A::Error> {
        let (mut messages, mut fields) = (None, Vec::with_capacity(4));
        while let Some(Name(name)) = map.next_key()? {
            if fields.len() + usize::from(messages.is_some()) == MAX_FIELDS {
                return Err(A::Error::custom("too many fields"));
            }
            if name != "chat_messages" {
                fields.push((name, map.next_value::<&RawValue>()?));
            } else if messages.is_none() {
                messages = Some(map.next_value::<Messages>()?.0);
            } else {
                return Err(A::Error::custom("repeated"));
            }
        }
        // Without a list it may be no conversation.
        let messages = messages.ok_or_else(|| A::Error::custom("no list"))?;
        let mut conversation = Conversation { messages, ..Conversation::default() };
        let root = Object::new(fields);
        let metadata = root.object("metadata").map_err(unusual)?;
        read_expiry(&root, metadata.as_ref(), &mut conversation);
        if let Some(metadata) = metadata {
            conversation.metadata = read_metadata(&metadata, &mut conversation.faults);
        }
        Ok(conversation)
    }
}

/// Initial capacity: enough for most conversations.
const USUAL_MESSAGES: usize = 32;

struct Messages(Vec<Message>);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List).map(Self)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Vec<Message>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Message>, A::Error> {
        let mut messages: Vec<Message> = Vec::with_capacity(USUAL_MESSAGES);
        while let Some(fields) = list.next_element::<Fields>()? {
            if messages.len() == MAX_MESSAGES {
                return Err(A::Error::custom("too many"));
            }
            let id = fields.id.ok_or_else(|| A::Error::custom("no id"))?;
            messages.push(fields.into_message(id, messages.len()));
        }
        if !messages.is_sorted_by(|one, next| one.id < next.id) && has_repeated_id(&messages) {
            return Err(A::Error::custom("repeated id"));
        }
        // Move the messages instead of shrinking the list: shrinking would leave a gap in memory for every
        // conversation that waits to be written.
        let mut exact = Vec::with_capacity(messages.len());
        exact.append(&mut messages);
        Ok(exact)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageFields)
    }
}

struct MessageFields;

impl<'de> Visitor<'de> for MessageFields {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let (mut fields, mut count) = (Fields::default(), 0);
        while let Some(Name(name)) = map.next_key()? {
            if count == MAX_FIELDS {
                return Err(A::Error::custom("too many fields"));
            }
            count += 1;
            if !fields.read_next(&name, &mut map)? {
                fields.others.push((name, map.next_value()?));
            }
        }
        Ok(fields)
    }
}

fn has_repeated_id(messages: &[Message]) -> bool {
    let mut ids: Vec<i64> = messages.iter().map(|message| message.id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

/// Discards the error: the careful decoder finds out what is wrong.
fn unusual<T, E: Error>(_: T) -> E {
    E::custom("irregular")
}
