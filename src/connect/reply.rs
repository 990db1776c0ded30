//! Decodes the body of a 200 reply of the chat endpoint, of both ages of the API.
//!
//! Objects are split into fields first and read field by field, so that every complaint has a `JSONPath` and a bad
//! message, or a bad user in `metadata`, costs nothing but itself: it becomes a [`Fault`] of the conversation. Only
//! what is no conversation at all is an error. Pure: no I/O, any bytes in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::text;
use crate::domain::{ChatUser, Conversation, Fault, Message, Metadata, UserType};

/// Reads a conversation out of a reply. Parts that make no sense are in its `faults`; a reply that makes none as a
/// whole is the error.
pub fn decode(body: &[u8]) -> Result<Conversation, Fault> {
    let whole = |reason: String| Fault { path: "$".to_owned(), reason, body: text::escape(body) };
    let json = std::str::from_utf8(body)
        .map_err(|error| whole(format!("not UTF-8 from byte {} on", error.valid_up_to() + 1)))?;
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
    let list = root.list("chat_messages").map_err(|wrong| Fault { path: wrong.path, ..whole(wrong.reason) })?;
    read_messages(&list, &mut conversation);
    let metadata = keep(metadata, root.raw("metadata"), &mut conversation.faults).flatten();
    for object in [Some(&root), metadata.as_ref()].into_iter().flatten() {
        let is_expired = keep(object.bool("is_expired"), object.raw("is_expired"), &mut conversation.faults).flatten();
        conversation.is_expired = conversation.is_expired.max(is_expired);
    }
    if let Some(metadata) = metadata {
        conversation.metadata = read_metadata(&metadata, &mut conversation.faults);
    }
    Ok(conversation)
}

fn read_messages(list: &[&RawValue], conversation: &mut Conversation) {
    let mut positions: HashMap<i64, usize> = HashMap::with_capacity(list.len());
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
                    conversation.faults.push(Fault { path: format!("{path}.id"), reason, body: raw.get().to_owned() });
                }
            }
        }
    }
}

fn read_message(object: &Object, position: usize) -> Result<Message, Wrong> {
    let mut is_altered = false;
    let mut text = |name| -> Result<Option<String>, Wrong> {
        let text = object.text(name)?;
        is_altered |= text.as_ref().is_some_and(|text| text.is_altered);
        Ok(text.map(|text| text.text))
    };
    let user_type = |name: &str, text: Option<String>| match text {
        Some(text) if text.len() > MAX_TYPE_BYTES => Err(object.wrong(name, "too long for a type")),
        text => Ok(text.map(|text| UserType::new(text.into()))),
    };
    let sender_type = user_type("sender_type", text("sender_type")?)?;
    let recipient_type = user_type("recipient_type", text("recipient_type")?)?;
    let body = text("body")?;
    let image_url = text("image")?.filter(|url| !url.is_empty());
    let (extra, is_extra_altered) = object.extra(&MESSAGE_FIELDS);
    Ok(Message {
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
        extra,
        is_altered: is_altered || is_extra_altered,
    })
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
    let list = keep(metadata.list("shoppers"), metadata.raw("shoppers"), faults).unwrap_or_default();
    let mut shoppers: Vec<ChatUser> = Vec::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate().filter(|(_, raw)| raw.get() != "null") {
        let shopper =
            Object::read(raw.get(), &format!("$.metadata.shoppers[{index}]")).and_then(|user| read_user(&user));
        if let Some(Some(shopper)) = keep(shopper, Some(raw), faults)
            && !shoppers.iter().any(|known| known.id == shopper.id)
        {
            shoppers.push(shopper);
        }
    }
    Metadata { customer, current_shopper, shoppers }
}

/// An object without any field names nobody.
fn read_user(object: &Object) -> Result<Option<ChatUser>, Wrong> {
    if object.fields.is_empty() {
        return Ok(None);
    }
    let text = |name| Ok(object.text(name)?.map(|text| text.text));
    Ok(Some(ChatUser {
        id: object.integer("id")?.ok_or_else(|| object.wrong("id", "missing: without it the user has no identity"))?,
        display_name: text("display_name")?,
        avatar_url: text("avatar_url")?.filter(|url| !url.is_empty()),
    }))
}

/// Takes the good; a bad part joins the faults with its JSON text.
fn keep<T>(result: Result<T, Wrong>, raw: Option<&RawValue>, faults: &mut Vec<Fault>) -> Option<T> {
    result
        .map_err(|wrong| {
            let body = raw.map_or_else(String::new, |raw| raw.get().to_owned());
            faults.push(Fault { path: wrong.path, reason: wrong.reason, body });
        })
        .ok()
}

/// A complaint about the value at `path`.
struct Wrong {
    path: String,
    reason: String,
}

/// A JSON object split into fields. Of a repeated name the last counts, as in most parsers.
struct Object<'a> {
    path: String,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    fn read(json: &'a str, path: &str) -> Result<Self, Wrong> {
        let wrong = |reason| Wrong { path: path.to_owned(), reason };
        if !json.starts_with('{') {
            return Err(wrong(format!("expected an object, found {}", kind(json))));
        }
        let Fields(fields) =
            serde_json::from_str(json).map_err(|_| wrong("the name of a field is not valid Unicode".to_owned()))?;
        Ok(Self { path: path.to_owned(), fields })
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// The value's JSON; `None` if it is absent or null.
    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.fields.iter().rev().find(|(field, _)| field == name)?;
        Some(*raw).filter(|raw| raw.get() != "null")
    }

    fn wrong(&self, name: &str, reason: &str) -> Wrong {
        Wrong { path: format!("{}.{name}", self.path), reason: reason.to_owned() }
    }

    fn expected(&self, name: &str, what: &str, found: &str) -> Wrong {
        self.wrong(name, &format!("expected {what}, found {}", kind(found)))
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, Wrong> {
        let parse = |raw: &RawValue| {
            serde_json::from_str(raw.get()).map_err(|_| self.expected(name, "a 64-bit integer", raw.get()))
        };
        self.raw(name).map(parse).transpose()
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, Wrong> {
        let parse = |raw: &RawValue| {
            serde_json::from_str(raw.get()).map_err(|_| self.expected(name, "true or false", raw.get()))
        };
        self.raw(name).map(parse).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<text::Text>, Wrong> {
        let parse = |raw: &RawValue| text::decode(raw.get()).ok_or_else(|| self.expected(name, "a string", raw.get()));
        self.raw(name).map(parse).transpose()
    }

    /// RFC 3339 with any offset and fraction; an empty string counts as absent.
    fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Wrong> {
        let Some(text) = self.text(name)?.filter(|text| !text.text.is_empty()) else { return Ok(None) };
        DateTime::parse_from_rfc3339(&text.text)
            .map(|time| Some(time.with_timezone(&Utc)))
            .map_err(|_| self.wrong(name, "expected a time as in RFC 3339, found another string"))
    }

    fn object(&self, name: &str) -> Result<Option<Self>, Wrong> {
        self.raw(name).map(|raw| Self::read(raw.get(), &format!("{}.{name}", self.path))).transpose()
    }

    fn list(&self, name: &str) -> Result<Vec<&'a RawValue>, Wrong> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        serde_json::from_str(raw.get()).map_err(|_| self.expected(name, "a list", raw.get()))
    }

    /// All fields but the `known` ones, and whether anything in them had to be replaced.
    fn extra(&self, known: &[&str]) -> (Option<serde_json::Map<String, Value>>, bool) {
        let mut extra = serde_json::Map::new();
        let mut is_altered = false;
        for (name, raw) in self.fields.iter().filter(|(name, _)| !known.contains(&&**name)) {
            let value = serde_json::from_str(raw.get()).unwrap_or_else(|_| {
                // Nested too deep, a number out of range, half a surrogate pair: kept as its JSON text.
                is_altered = true;
                Value::String(raw.get().to_owned())
            });
            extra.insert(storable(name, &mut is_altered), storable_value(value, &mut is_altered));
        }
        (Some(extra).filter(|extra| !extra.is_empty()), is_altered)
    }
}

fn storable(text: &str, is_altered: &mut bool) -> String {
    *is_altered |= text.contains('\0');
    text.replace('\0', "\u{FFFD}")
}

fn storable_value(value: Value, is_altered: &mut bool) -> Value {
    match value {
        Value::String(text) => Value::String(storable(&text, is_altered)),
        Value::Array(items) => items.into_iter().map(|item| storable_value(item, is_altered)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (storable(&name, is_altered), storable_value(value, is_altered)))
                .collect(),
        ),
        other => other,
    }
}

/// What kind of JSON value a text starts with.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "a number that does not fit",
        None => "nothing",
    }
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Borrows from the reply where a name has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(12);
                while let Some((Name(name), raw)) = map.next_entry()? {
                    fields.push((name, raw));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests;
