//! A conversation as decoded from one reply of the API.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Fault;

/// The number space of a chat user's id. Ids of `user` and `driver` overlap, so a user is identified by both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UserType {
    Driver,
    User,
    /// Any other type. Made by [`UserType::new`] only: never `driver` or `user`.
    Other(Box<str>),
}

impl UserType {
    /// Makes a type from the API's name; keeps unknown names.
    #[must_use]
    pub fn new(name: &str) -> Self {
        match name {
            "driver" => Self::Driver,
            "user" => Self::User,
            _ => Self::Other(name.into()),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Driver => "driver",
            Self::User => "user",
            Self::Other(name) => name,
        }
    }
}

impl Serialize for UserType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ChatUserId {
    pub user_type: UserType,
    pub id: i64,
}

/// A chat user as `metadata` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatUser {
    /// The number; its space follows from its place in `metadata`.
    pub id: i64,
    /// The name that the chat shows.
    pub display_name: Option<String>,
    /// `None` where the API sent an empty string.
    pub avatar_url: Option<String>,
}

/// One message. All fields but the id are optional in the API.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Message {
    pub id: i64,
    /// Index in the reply, from 0.
    pub position: i32,
    /// Instacart's integer id of the order.
    pub instacart_order_id: Option<i64>,
    pub created_at: Option<DateTime<Utc>>,
    pub sender_type: Option<UserType>,
    pub sender_id: Option<i64>,
    pub recipient_type: Option<UserType>,
    pub recipient_id: Option<i64>,
    pub is_read: Option<bool>,
    pub read_at: Option<DateTime<Utc>>,
    pub body: Option<Box<str>>,
    pub image_url: Option<Box<str>>,
    /// Unknown fields, and the raw values of unreadable ones.
    pub extra: Option<Extra>,
    /// The API's names of the unreadable fields, in order. Their values are `None` here and raw in `extra`.
    pub unreadable: Vec<&'static str>,
    /// Whether characters that PostgreSQL cannot store were replaced in any text.
    pub is_altered: bool,
}

impl Message {
    /// Returns sender and recipient, where the reply identifies them.
    pub fn correspondents(&self) -> impl Iterator<Item = ChatUserId> + '_ {
        [(&self.sender_type, self.sender_id), (&self.recipient_type, self.recipient_id)]
            .into_iter()
            .filter_map(|(user_type, id)| Some(ChatUserId { user_type: user_type.clone()?, id: id? }))
    }
}

/// The unknown and unreadable fields of a message: one JSON object that `jsonb` accepts, its names sorted.
///
/// Kept as text: a tree takes up to a hundred times the memory, and its numbers lose digits.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Extra(Box<RawValue>);

impl Extra {
    /// Wraps an object that was checked and sorted.
    #[must_use]
    pub fn new(object: Box<RawValue>) -> Self {
        Self(object)
    }

    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.0
    }
}

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Metadata {
    pub customer: Option<ChatUser>,
    /// The current shopper; usually one of `shoppers` too.
    pub current_shopper: Option<ChatUser>,
    pub shoppers: Vec<ChatUser>,
}

impl Metadata {
    /// Returns every mention of a shopper. A shopper mentioned twice may have a name in one mention only.
    pub fn all_shoppers(&self) -> impl Iterator<Item = &ChatUser> {
        self.shoppers.iter().chain(&self.current_shopper)
    }
}

/// A reply that was understood, at least partly.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Conversation {
    /// The messages that could be read, in the order of the reply.
    pub messages: Vec<Message>,
    pub metadata: Metadata,
    /// Whether the reply says that it is expired; `None` if it does not say (the older API).
    pub is_expired: Option<bool>,
    /// What could not be read; goes to `sync.rejects`.
    pub faults: Vec<Fault>,
}

impl Conversation {
    /// Returns how many messages cannot be stored: without a usable id, or with the id of another message.
    #[must_use]
    pub fn messages_left_out(&self) -> usize {
        self.faults.iter().filter(|fault| fault.path.starts_with("$.chat_messages")).count()
    }

    /// Returns whether the reply may say that it is expired, in a form that could not be read.
    #[must_use]
    pub fn hides_expiry(&self) -> bool {
        let places = ["$.is_expired", "$.metadata", "$.metadata.is_expired"];
        self.is_expired.is_none() && self.faults.iter().any(|fault| places.contains(&&*fault.path))
    }

    /// Returns Instacart's integer id of the order, from the first message that has one.
    #[must_use]
    pub fn instacart_order_id(&self) -> Option<i64> {
        self.messages.iter().find_map(|message| message.instacart_order_id)
    }
}
