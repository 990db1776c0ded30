//! Turns the fields of a message into the domain's [`Message`], for both decoders.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::object::{Field, Object};
use super::{extra, lossless};
use crate::connect::text::{self, Text};
use crate::domain::{Message, UserType};

/// Most messages in one reply. A conversation has tens. Eight MiB could hold a million minimal ones, each of which
/// would take hundreds of bytes here and a row in the database.
pub(super) const MAX_MESSAGES: usize = 10_000;

/// Types belong to keys: a longer one would exceed the size of an index entry.
const MAX_TYPE_BYTES: usize = 128;

/// The documented fields of a message; all others go to `extra`.
pub(super) const MESSAGE_FIELDS: [&str; 11] = [
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

/// The fields of a message. Null counts as absent, and so does an empty string, except in `body`.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<i64>,
    pub(super) order_id: Option<i64>,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) recipient_id: Option<i64>,
    pub(super) recipient_type: Option<UserType>,
    pub(super) sender_id: Option<i64>,
    pub(super) sender_type: Option<UserType>,
    pub(super) read: Option<bool>,
    pub(super) read_at: Option<DateTime<Utc>>,
    pub(super) body: Option<Text<'a>>,
    pub(super) image: Option<Text<'a>>,
    /// Fields whose names are not in [`MESSAGE_FIELDS`], in the order of the reply.
    pub(super) others: Vec<Field<'a>>,
    /// Fields in [`MESSAGE_FIELDS`] whose value cannot be read.
    pub(super) unreadable: Vec<(&'static str, &'a RawValue)>,
    /// Whether characters of a type were replaced.
    pub(super) is_altered: bool,
}

impl<'a> Fields<'a> {
    /// Reads each field on its own: an unreadable one does not affect the others.
    pub(super) fn of(object: &Object<'a>) -> Self {
        let mut unreadable = Vec::new();
        let mut is_altered = false;
        let mut user_type = |name, unreadable: &mut _| {
            let text = read(object, name, unreadable, |json| text::decode(json).filter(is_type))?;
            is_altered |= text.is_altered;
            Some(UserType::new(&text.text))
        };
        let (sender_type, recipient_type) =
            (user_type("sender_type", &mut unreadable), user_type("recipient_type", &mut unreadable));
        Self {
            // A missing id is reported by the caller.
            id: object.raw("id").and_then(|raw| lossless::integer(raw.get())),
            order_id: read(object, "order_id", &mut unreadable, lossless::integer),
            created_at: read(object, "created_at", &mut unreadable, time),
            recipient_id: read(object, "recipient_id", &mut unreadable, lossless::integer),
            recipient_type,
            sender_id: read(object, "sender_id", &mut unreadable, lossless::integer),
            sender_type,
            read: read(object, "read", &mut unreadable, lossless::boolean),
            read_at: read(object, "read_at", &mut unreadable, time),
            body: read(object, "body", &mut unreadable, lossless::words),
            image: read(object, "image", &mut unreadable, text::decode),
            others: object.others(&MESSAGE_FIELDS),
            unreadable,
            is_altered,
        }
    }

    /// Makes the message with this id, at this position of its reply.
    pub(super) fn into_message(mut self, id: i64, position: usize) -> Message {
        let is_altered = self.is_altered || [&self.body, &self.image].into_iter().flatten().any(|text| text.is_altered);
        // No name occurs twice: these are known names, the others are unknown ones.
        self.others.extend(self.unreadable.iter().map(|(name, raw)| ((*name).into(), *raw)));
        let mut unreadable: Vec<&'static str> = self.unreadable.iter().map(|(name, _)| *name).collect();
        unreadable.sort_unstable();
        let (extra, is_extra_altered) = extra::collect(self.others);
        Message {
            id,
            position: i32::try_from(position).expect("a reply has no more than MAX_MESSAGES"),
            instacart_order_id: self.order_id,
            created_at: self.created_at,
            sender_type: self.sender_type,
            sender_id: self.sender_id,
            recipient_type: self.recipient_type,
            recipient_id: self.recipient_id,
            is_read: self.read,
            read_at: self.read_at,
            body: self.body.map(|text| text.text.into()),
            image_url: self.image.map(|url| url.text).filter(|url| !url.is_empty()).map(Box::from),
            extra,
            unreadable,
            is_altered: is_altered || is_extra_altered,
        }
    }
}

/// Reads a field. Adds it to `unreadable` if that fails.
fn read<'a, T>(
    object: &Object<'a>,
    name: &'static str,
    unreadable: &mut Vec<(&'static str, &'a RawValue)>,
    parse: impl FnOnce(&'a str) -> Option<T>,
) -> Option<T> {
    let raw = object.raw(name).filter(|raw| raw.get() != r#""""# || name == "body")?;
    let value = parse(raw.get());
    if value.is_none() {
        unreadable.push((name, raw));
    }
    value
}

/// Returns whether a text is short enough for a type.
pub(super) fn is_type(text: &Text<'_>) -> bool {
    text.text.len() <= MAX_TYPE_BYTES
}

fn time(json: &str) -> Option<DateTime<Utc>> {
    lossless::time(&text::decode(json)?.text)
}
