//! A message on its way from the fields of a reply into the domain, whichever way they were read.

use chrono::{DateTime, Utc};

use super::extra;
use super::object::Field;
use crate::connect::text::Text;
use crate::domain::{Message, UserType};

/// Types are part of keys: a longer one than any index entry can hold is no type.
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

/// The fields of a message as JSON has them. What is null is absent.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<i64>,
    pub(super) order_id: Option<i64>,
    pub(super) created_at: Option<Text<'a>>,
    pub(super) recipient_id: Option<i64>,
    pub(super) recipient_type: Option<Text<'a>>,
    pub(super) sender_id: Option<i64>,
    pub(super) sender_type: Option<Text<'a>>,
    pub(super) read: Option<bool>,
    pub(super) read_at: Option<Text<'a>>,
    pub(super) body: Option<Text<'a>>,
    pub(super) image: Option<Text<'a>>,
    /// With names that are not in [`MESSAGE_FIELDS`], in the order of the reply.
    pub(super) others: Vec<Field<'a>>,
}

/// A field with a value that makes no sense, and what is wrong with it.
pub(super) type Misfit = (&'static str, &'static str);

impl Fields<'_> {
    /// The message at this position of its reply.
    pub(super) fn into_message(self, position: usize) -> Result<Message, Misfit> {
        let texts = [&self.sender_type, &self.recipient_type, &self.body, &self.image];
        let is_altered = texts.into_iter().flatten().any(|text| text.is_altered);
        let sender_type = user_type("sender_type", self.sender_type)?;
        let recipient_type = user_type("recipient_type", self.recipient_type)?;
        let (extra, is_extra_altered) = extra::collect(self.others);
        Ok(Message {
            id: self.id.ok_or(("id", "missing: without it the message has no identity"))?,
            position: i32::try_from(position).map_err(|_| ("id", "too many messages"))?,
            instacart_order_id: self.order_id,
            created_at: time("created_at", self.created_at.as_ref())?,
            sender_type,
            sender_id: self.sender_id,
            recipient_type,
            recipient_id: self.recipient_id,
            is_read: self.read,
            read_at: time("read_at", self.read_at.as_ref())?,
            body: self.body.map(|text| text.text.into()),
            image_url: self.image.map(|url| url.text).filter(|url| !url.is_empty()).map(Box::from),
            extra,
            is_altered: is_altered || is_extra_altered,
        })
    }
}

fn user_type(name: &'static str, text: Option<Text>) -> Result<Option<UserType>, Misfit> {
    match text {
        Some(text) if text.text.len() > MAX_TYPE_BYTES => Err((name, "too long for a type")),
        text => Ok(text.map(|text| UserType::new(&text.text))),
    }
}

/// RFC 3339 with any offset and fraction; an empty string counts as absent.
fn time(name: &'static str, text: Option<&Text>) -> Result<Option<DateTime<Utc>>, Misfit> {
    let Some(text) = text.map(|text| &*text.text).filter(|text| !text.is_empty()) else { return Ok(None) };
    DateTime::parse_from_rfc3339(text)
        .map(|time| Some(time.with_timezone(&Utc)))
        .map_err(|_| (name, "expected a time as in RFC 3339, found another string"))
}
