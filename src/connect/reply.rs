//! Decodes the body of a 200 reply of the chat endpoint, of both ages of the API.
//!
//! What is as usual is read in one pass (`quick`). Otherwise objects are split into fields first and read field by
//! field, so that every complaint has a `JSONPath` and a bad message, or a bad user in `metadata`, costs nothing but
//! itself: it becomes a [`Fault`] of the conversation. Only what is no conversation at all is an error. Pure: no I/O,
//! any bytes in.

mod extra;
mod object;
mod quick;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::value::RawValue;

use crate::domain::{ChatUser, Conversation, Fault, Message, Metadata, UserType};
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
    let mut is_altered = false;
    let mut text = |name| -> Result<Option<Cow<str>>, Wrong> {
        let text = object.text(name)?;
        is_altered |= text.as_ref().is_some_and(|text| text.is_altered);
        Ok(text.map(|text| text.text))
    };
    let user_type = |name: &str, text: Option<Cow<str>>| match text {
        Some(text) if text.len() > MAX_TYPE_BYTES => Err(object.wrong(name, "too long for a type")),
        text => Ok(text.map(|text| UserType::new(&text))),
    };
    let sender_type = user_type("sender_type", text("sender_type")?)?;
    let recipient_type = user_type("recipient_type", text("recipient_type")?)?;
    let body = text("body")?.map(Box::from);
    let image_url = text("image")?.filter(|url| !url.is_empty()).map(Box::from);
    let mut message = Message {
        id: object
            .integer("id")?
            .ok_or_else(|| object.wrong("id", "missing: without it the message has no identity"))?,
        position: i32::try_from(position).map_err(|_| object.wrong("id", "too many messages"))?,
        instacart_order_id: object.integer("order_id")?,
        created_at: object.time("created_at")?,
        sender_type,
        sender_id: object.integer("sender_id")?,
        recipient_type,
        recipient_id: object.integer("recipient_id")?,
        is_read: object.bool("read")?,
        read_at: object.time("read_at")?,
        body,
        image_url,
        extra: None,
        is_altered,
    };
    let (extra, is_extra_altered) = extra::collect(object.others(&MESSAGE_FIELDS));
    message.extra = extra;
    message.is_altered |= is_extra_altered;
    Ok(message)
}

/// Types are part of keys: a longer one than any index entry can hold is no type.
const MAX_TYPE_BYTES: usize = 128;

/// The documented fields of a message; all others go to `extra`.
const MESSAGE_FIELDS: [&str; 11] = [
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
