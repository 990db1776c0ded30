//! Decodes the body of a 200 reply of the chat endpoint, in both formats the API has had.
//!
//! A regular reply is read in one pass (`quick`). Any other is split into fields first and read field by field, so
//! that an unreadable field loses nothing else. Values of another JSON type are read if only one value can be meant
//! (`lossless`).
//! An unreadable field of a message is kept with the message. A message or chat user without an id becomes a [`Fault`]
//! of the conversation, with its `JSONPath`. Only a body that is no conversation at all is an error. Pure: no I/O,
//! accepts any bytes.

mod careful_fields;
mod extra;
mod lossless;
mod message;
mod metadata;
mod object;
mod quick;
mod quick_fields;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::value::RawValue;

use crate::connect::text::without_bom;
use crate::domain::{Conversation, Fault, Message, UserType};
use message::{Fields, MAX_MESSAGES};
use metadata::{read_expiry, read_metadata};
use object::{Malformed, Object, keep};

/// Decodes a conversation. Unreadable pieces are listed in its `faults`. Fails if the reply as a whole is no
/// conversation.
pub fn decode(body: &[u8]) -> Result<Conversation, Fault> {
    let json = without_bom(body);
    match std::str::from_utf8(json) {
        Ok(json) => quick::decode(json).map_or_else(|| decode_carefully(json, body, false), Ok),
        Err(error) => {
            let reason = format!("not UTF-8 from byte {} on", error.valid_up_to() + 1);
            decode_garbled(json, Fault::new("$", reason, body))
        }
    }
}

/// Decodes a reply with bytes that are not UTF-8, replacing these. The original is kept as a fault as well.
fn decode_garbled(json: &[u8], fault: Fault) -> Result<Conversation, Fault> {
    let Ok(mut conversation) = decode_carefully(&String::from_utf8_lossy(json), json, true) else { return Err(fault) };
    for message in &mut conversation.messages {
        let types = [&message.sender_type, &message.recipient_type].into_iter().flatten().map(UserType::as_str);
        let texts = [&message.body, &message.image_url].into_iter().flatten().map(|text| &**text);
        let extra = message.extra.iter().map(|extra| extra.json().get());
        message.is_altered |= types.chain(texts).chain(extra).any(|text| text.contains('\u{FFFD}'));
    }
    conversation.faults.insert(0, fault);
    Ok(conversation)
}

/// Decodes level by level, so that a malformed piece is reported and left out. `body` is what a fault of the whole
/// keeps. A garbled reply is refused if the name of a field is damaged: without its list a conversation would look
/// empty, and without `is_expired` alive.
fn decode_carefully(json: &str, body: &[u8], is_garbled: bool) -> Result<Conversation, Fault> {
    let whole = |reason: String| Fault::new("$", reason, body);
    let root: &RawValue = serde_json::from_str(json).map_err(|error| {
        // Do not use serde_json's own text: it may quote the reply.
        whole(format!("not JSON: it breaks at line {} column {}", error.line(), error.column()))
    })?;
    let root = Object::read(root.get(), "$").map_err(|wrong| whole(wrong.reason))?;
    if !["chat_messages", "metadata", "is_expired"].iter().any(|name| root.has(name)) {
        return Err(whole("no conversation: none of chat_messages, metadata and is_expired is there".to_owned()));
    }
    let mut conversation = Conversation::default();
    let metadata = root.object("metadata");
    let objects = [Some(&root), metadata.as_ref().ok().and_then(Option::as_ref)];
    if is_garbled && objects.into_iter().flatten().any(Object::has_damaged_name) {
        return Err(whole("the name of a field is not UTF-8".to_owned()));
    }
    let list = root.list("chat_messages", MAX_MESSAGES).map_err(|wrong| Fault::new(wrong.path, wrong.reason, body))?;
    read_messages(&list, &mut conversation);
    let metadata = keep(metadata, root.raw("metadata"), &mut conversation.faults).flatten();
    read_expiry(&root, metadata.as_ref(), &mut conversation);
    if let Some(metadata) = metadata {
        conversation.metadata = read_metadata(&metadata, &mut conversation.faults);
    }
    Ok(conversation)
}

fn read_messages(list: &[&RawValue], conversation: &mut Conversation) {
    let mut positions: HashMap<i64, usize> = HashMap::with_capacity(list.len());
    conversation.messages.reserve_exact(list.len());
    for (index, raw) in list.iter().enumerate() {
        let path = format!("$.chat_messages[{index}]");
        let message = Object::read(raw.get(), &path).and_then(|object| read_message(&object, index));
        let Some(message) = keep(message, Some(raw), &mut conversation.faults) else { continue };
        match positions.entry(message.id) {
            Entry::Vacant(entry) => {
                entry.insert(conversation.messages.len());
                conversation.messages.push(message);
            }
            Entry::Occupied(entry) => {
                let first = &conversation.messages[*entry.get()];
                if (Message { position: first.position, ..message }) != *first {
                    let reason = "the id of an earlier message of the same reply, with other content".to_owned();
                    conversation.faults.push(Fault::new(format!("{path}.id"), reason, raw.get().as_bytes()));
                }
            }
        }
    }
}

fn read_message(object: &Object, position: usize) -> Result<Message, Malformed> {
    let id = object.integer("id")?;
    let id = id.ok_or_else(|| object.wrong("id", "missing: without it the message has no identity"))?;
    Ok(Fields::of(object).into_message(id, position))
}

#[cfg(test)]
mod tests;
