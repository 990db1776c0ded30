//! Turns the fields of a message into the domain's [`Message`], for both decoders.

use chrono::{DateTime, Utc};
use serde::de::MapAccess;

use super::careful_fields::Rest;
use super::object::{Field, Object};
use super::{careful_fields, extra, quick_fields};
use crate::connect::text::Text;
use crate::domain::{Message, UserType};

/// Most messages in one reply. A conversation has tens. Eight MiB could hold a million minimal ones, each of which
/// would take hundreds of bytes here and a row in the database.
pub(super) const MAX_MESSAGES: usize = 10_000;

/// Declares the documented fields of a message: the name in the reply, the field, its type and how it is read. Both
/// decoders follow this list; all other names go to `extra`.
macro_rules! message_fields {
    ($($name:literal => $field:ident: $type:ty, $kind:ident;)+) => {
        pub(super) const MESSAGE_FIELDS: &[&str] = &[$($name,)+];

        /// The fields of a message. Null counts as absent, and so does an empty string, except in `body`.
        #[derive(Default)]
        pub(super) struct Fields<'a> {
            $(pub(super) $field: Option<$type>,)+
            /// Fields with other names, in the order of the reply.
            pub(super) others: Vec<Field<'a>>,
            rest: Rest<'a>,
        }

        impl<'a> Fields<'a> {
            /// Reads each field on its own: an unreadable one does not affect the others.
            pub(super) fn of(object: &Object<'a>) -> Self {
                let mut rest = Rest::default();
                Self {
                    $($field: careful_fields::$kind(object, $name, &mut rest),)+
                    others: object.others(MESSAGE_FIELDS),
                    rest,
                }
            }

            /// Reads the value of the field with this name in one pass. Fails if it is repeated or irregular. Returns
            /// false if the name is not documented.
            pub(super) fn read_next<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
                match name {
                    $($name => quick_fields::$kind(&mut self.$field, map)?,)+
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

message_fields! {
    "id" => id: i64, id;
    "order_id" => order_id: i64, integer;
    "created_at" => created_at: DateTime<Utc>, time;
    "recipient_id" => recipient_id: i64, integer;
    "recipient_type" => recipient_type: UserType, user_type;
    "sender_id" => sender_id: i64, integer;
    "sender_type" => sender_type: UserType, user_type;
    "read" => read: bool, boolean;
    "read_at" => read_at: DateTime<Utc>, time;
    "body" => body: Text<'a>, words;
    "image" => image: Text<'a>, text;
}

impl Fields<'_> {
    /// Makes the message with this id, at this position of its reply.
    pub(super) fn into_message(mut self, id: i64, position: usize) -> Message {
        let is_altered =
            self.rest.is_altered || [&self.body, &self.image].into_iter().flatten().any(|text| text.is_altered);
        // No name occurs twice: these are known names, the others are unknown ones.
        self.others.extend(self.rest.unreadable.iter().map(|(name, raw)| ((*name).into(), *raw)));
        let mut unreadable: Vec<&'static str> = self.rest.unreadable.iter().map(|(name, _)| *name).collect();
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
