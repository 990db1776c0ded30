//! Decodes the body of a 200 reply of the chat endpoint, of both ages of the API.
//!
//! What is as usual is read in one pass (`quick`). Otherwise objects are split into fields first and read field by
//! field, so that every complaint has a `JSONPath` and a bad message, or a bad user in `metadata`, costs nothing but
//! itself: it becomes a [`Fault`] of the conversation. Only what is no conversation at all is an error. Pure: no I/O,
//! any bytes in.

mod extra;
mod message;
mod object;
mod quick;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::value::RawValue;

use crate::domain::{ChatUser, Conversation, Fault, Message, Metadata};
use message::MESSAGE_FIELDS;
use object::{Object, Wrong};

/// Most messages in one reply. A conversation has tens; of the smallest possible ones, eight mebibytes hold a million,
/// each of which would take hundreds of bytes here and a row in the database.
const MAX_MESSAGES: usize = 10_000;

/// Most shoppers in one reply. An order has a handful.
const MAX_SHOPPERS: usize = 1_000;

/// Reads a conversation out of a reply. Parts that make no sense are in its `faults`; a reply that makes none as a
/// whole is the error.
pub fn decode(body: &[u8]) -> Result<Conversation, Fault> {
    let json = std::str::from_utf8(body)
        .map_err(|error| Fault::new("$", format!("not UTF-8 from byte {} on", error.valid_up_to() + 1), body))?;
    quick::decode(json).map_or_else(|| decode_carefully(json), Ok)
}

/// Level by level, so that a bad part can be told and left out.
fn decode_carefully(json: &str) -> Result<Conversation, Fault> {
    let body = json.as_bytes();
    let whole = |reason: String| Fault::new("$", reason, body);
    let root: &RawValue = serde_json::from_str(json).map_err(|error| {
        // serde_json's own text may quote the reply.
        whole(format!("not JSON: it breaks at line {} column {}", error.line(), error.column()))
    })?;
    let root = Object::read(root.get(), "$").map_err(|wrong| whole(wrong.reason))?;
    if !["chat_messages", "metadata", "is_expired"].iter().any(|name| root.has(name)) {
        return Err(whole("no conversation: none of chat_messages, metadata and is_expired is there".to_owned()));
    }
    let mut conversation = Conversation::default();
    let metadata = root.object("metadata");
    let list = root.list("chat_messages", MAX_MESSAGES).map_err(|wrong| Fault::new(wrong.path, wrong.reason, body))?;
    read_messages(&list, &mut conversation);
    let metadata = keep(metadata, root.raw("metadata"), &mut conversation.faults).flatten();
    read_expiry(&root, metadata.as_ref(), &mut conversation);
    if let Some(metadata) = metadata {
        conversation.metadata = read_metadata(&metadata, &mut conversation.faults);
    }
    Ok(conversation)
}

/// In either place; true wins.
fn read_expiry(root: &Object, metadata: Option<&Object>, conversation: &mut Conversation) {
    for object in [Some(root), metadata].into_iter().flatten() {
        let is_expired = keep(object.bool("is_expired"), object.raw("is_expired"), &mut conversation.faults).flatten();
        conversation.is_expired = conversation.is_expired.max(is_expired);
    }
}

fn read_messages(list: &[&RawValue], conversation: &mut Conversation) {
    let mut positions: HashMap<i64, usize> = HashMap::with_capacity(list.len());
    conversation.messages.reserve_exact(list.len());
    for (index, raw) in list.iter().enumerate() {
        let path = format!("$.chat_messages[{index}]");
        let message = Object::read(raw.get(), &path).and_then(|object| read_message(&object, index));
        let Some(message) = keep(message, Some(raw), &mut conversation.faults) else { continue };
        match positions.entry(message.id) {
            Entry::Vacant(place) => {
                place.insert(conversation.messages.len());
                conversation.messages.push(message);
            }
            Entry::Occupied(place) => {
                let first = &conversation.messages[*place.get()];
                if (Message { position: first.position, ..message }) != *first {
                    let reason = "the id of an earlier message of the same reply, with other content".to_owned();
                    conversation.faults.push(Fault::new(format!("{path}.id"), reason, raw.get().as_bytes()));
                }
            }
        }
    }
}

fn read_message(object: &Object, position: usize) -> Result<Message, Wrong> {
    let fields = message::Fields {
        // In the order in which complaints are told: of several the first, which a fingerprint holds.
        sender_type: object.text("sender_type")?,
        recipient_type: object.text("recipient_type")?,
        body: object.text("body")?,
        image: object.text("image")?,
        id: object.integer("id")?,
        order_id: object.integer("order_id")?,
        created_at: object.text("created_at")?,
        sender_id: object.integer("sender_id")?,
        recipient_id: object.integer("recipient_id")?,
        read: object.bool("read")?,
        read_at: object.text("read_at")?,
        others: object.others(&MESSAGE_FIELDS),
    };
    fields.into_message(position).map_err(|(name, reason)| object.wrong(name, reason))
}

fn read_metadata(metadata: &Object, faults: &mut Vec<Fault>) -> Metadata {
    let mut named = |name: &str| {
        let user = metadata.object(name).and_then(|user| user.map(|user| read_user(&user)).transpose());
        keep(user, metadata.raw(name), faults).flatten().flatten()
    };
    let (customer, current_shopper) = (named("customer"), named("current_shopper"));
    let list = keep(metadata.list("shoppers", MAX_SHOPPERS), metadata.raw("shoppers"), faults).unwrap_or_default();
    let mut shoppers: Vec<ChatUser> = Vec::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate().filter(|(_, raw)| raw.get() != "null") {
        let shopper =
            Object::read(raw.get(), &format!("$.metadata.shoppers[{index}]")).and_then(|user| read_user(&user));
        shoppers.extend(keep(shopper, Some(raw), faults).flatten());
    }
    Metadata { customer, current_shopper, shoppers }
}

/// An object without any field names nobody.
fn read_user(object: &Object) -> Result<Option<ChatUser>, Wrong> {
    if object.is_empty() {
        return Ok(None);
    }
    let text = |name| Ok(object.text(name)?.map(|text| text.text.into_owned()));
    Ok(Some(ChatUser {
        id: object.integer("id")?.ok_or_else(|| object.wrong("id", "missing: without it the user has no identity"))?,
        display_name: text("display_name")?,
        avatar_url: text("avatar_url")?.filter(|url: &String| !url.is_empty()),
    }))
}

/// Takes the good; a bad part joins the faults with its JSON text.
fn keep<T>(result: Result<T, Wrong>, raw: Option<&RawValue>, faults: &mut Vec<Fault>) -> Option<T> {
    result
        .map_err(|wrong| {
            let part = raw.map_or("", RawValue::get);
            faults.push(Fault::new(wrong.path, wrong.reason, part.as_bytes()));
        })
        .ok()
}

#[cfg(test)]
mod tests;
