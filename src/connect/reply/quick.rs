//! The way through a reply in which nothing is amiss: one pass over its bytes.
//!
//! Whatever is out of the ordinary ends it without an answer, and [`decode`](super::decode) takes the reply apart level
//! by level, to say what is wrong and keep the rest. So this decides nothing: it reads with the same functions, and
//! has an answer only where no part is left out.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::object::{Fields, MAX_FIELDS, Name, Object, USUAL_FIELDS, Wrong};
use super::{MAX_MESSAGES, read_expiry, read_message, read_metadata};
use crate::domain::{Conversation, Message};

/// The conversation, if the reply holds one without any fault.
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
            if fields.len() == MAX_FIELDS {
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
        // Without a list it may be no conversation at all.
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

/// Room for most conversations, so that the list need not grow.
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
        // One list for all of them: one for each would be most of what is allocated here.
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        while let Some(filled) = list.next_element_seed(Fields(fields))? {
            if messages.len() == MAX_MESSAGES {
                return Err(A::Error::custom("too many"));
            }
            let object = Object::new(filled);
            messages.push(read_message(&object, messages.len()).map_err(unusual)?);
            fields = object.into_fields();
            fields.clear();
        }
        if !messages.is_sorted_by(|one, next| one.id < next.id) && has_repeated_id(&messages) {
            return Err(A::Error::custom("repeated id"));
        }
        // Moved rather than shrunk, which would leave a gap in memory for every conversation that waits to be written.
        let mut exact = Vec::with_capacity(messages.len());
        exact.append(&mut messages);
        Ok(exact)
    }
}

fn has_repeated_id(messages: &[Message]) -> bool {
    let mut ids: Vec<i64> = messages.iter().map(|message| message.id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

/// What is wrong is found out later.
fn unusual<E: Error>(_: Wrong) -> E {
    E::custom("not as usual")
}
