//! A conversation as one reply of the API tells it, already decoded and checked.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Fault;
use super::fingerprint::Fingerprint;

/// Whose number space a chat user's id belongs to. `user` and `driver` ids overlap: a user is identified by both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UserType {
    /// The shoppers' number space.
    Driver,
    /// The customer's number space.
    User,
    /// Whatever else the API comes up with. Made by [`UserType::new`] only: never `driver` or `user`.
    Other(Box<str>),
}

impl UserType {
    /// A type as the API names it; unknown ones are kept as they are.
    #[must_use]
    pub fn new(name: &str) -> Self {
        match name {
            "driver" => Self::Driver,
            "user" => Self::User,
            _ => Self::Other(name.into()),
        }
    }

    /// The type as text.
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

/// Identifies a chat user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ChatUserId {
    /// The number space.
    pub user_type: UserType,
    /// The number in it.
    pub id: i64,
}

/// A chat user as `metadata` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatUser {
    /// The number in the space that the place in `metadata` implies.
    pub id: i64,
    /// As shown in the chat.
    pub display_name: Option<String>,
    /// `None` where the API sent an empty string.
    pub avatar_url: Option<String>,
}

/// One message. All but the id is optional in the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// The API's id.
    pub id: i64,
    /// Place in the reply, from 0.
    pub position: i32,
    /// Instacart's integer id of the order.
    pub instacart_order_id: Option<i64>,
    /// When it was written.
    pub created_at: Option<DateTime<Utc>>,
    /// `user`, `driver`, or whatever the API comes up with.
    pub sender_type: Option<UserType>,
    /// The sender.
    pub sender_id: Option<i64>,
    /// `user`, `driver`, or whatever the API comes up with.
    pub recipient_type: Option<UserType>,
    /// The recipient.
    pub recipient_id: Option<i64>,
    /// Whether the recipient has read it.
    pub is_read: Option<bool>,
    /// When the recipient read it.
    pub read_at: Option<DateTime<Utc>>,
    /// The text.
    pub body: Option<Box<str>>,
    /// An attached image.
    pub image_url: Option<Box<str>>,
    /// Fields that chatsync does not know, and raw values that could not be read.
    pub extra: Option<Extra>,
    /// The API's names of the fields whose values could not be read, in order. They are `None` here, and in `extra` as
    /// they came.
    pub unreadable: Vec<&'static str>,
    /// Whether something that PostgreSQL cannot store was replaced in any of the texts.
    pub is_altered: bool,
}

impl Message {
    /// Sender and recipient, where the reply identifies them.
    pub fn correspondents(&self) -> impl Iterator<Item = ChatUserId> + '_ {
        [(&self.sender_type, self.sender_id), (&self.recipient_type, self.recipient_id)]
            .into_iter()
            .filter_map(|(user_type, id)| Some(ChatUserId { user_type: user_type.clone()?, id: id? }))
    }
}

/// The fields of a message that chatsync does not know or cannot read: one JSON object that `jsonb` can hold, its names
/// in order.
///
/// Kept as text. As a tree, the same JSON takes up to a hundred times the room, and its numbers lose digits.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Extra(Box<RawValue>);

impl Extra {
    /// Fields that were found, checked and put in order.
    #[must_use]
    pub fn new(object: Box<RawValue>) -> Self {
        Self(object)
    }

    /// The object as JSON.
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

/// Who takes part, as far as the reply says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Metadata {
    /// The customer.
    pub customer: Option<ChatUser>,
    /// The shopper in charge now; usually one of `shoppers` too.
    pub current_shopper: Option<ChatUser>,
    /// All shoppers so far.
    pub shoppers: Vec<ChatUser>,
}

impl Metadata {
    /// Every mention of a shopper. Who is mentioned twice may be named in one place only.
    pub fn all_shoppers(&self) -> impl Iterator<Item = &ChatUser> {
        self.shoppers.iter().chain(&self.current_shopper)
    }
}

/// A reply that was understood, at least in part.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Conversation {
    /// The messages that were understood, in the order of the reply.
    pub messages: Vec<Message>,
    /// The participants that the reply names.
    pub metadata: Metadata,
    /// What the reply said of expiry; `None` where it said nothing (the older API).
    pub is_expired: Option<bool>,
    /// Parts that were not understood: what goes to `sync.rejects`.
    pub faults: Vec<Fault>,
}

impl Conversation {
    /// SHA-256 over everything that is stored of this reply. Equal hashes mean: nothing to write.
    #[must_use]
    pub fn content_hash(&self) -> Vec<u8> {
        Fingerprint::of(self)
    }

    /// How many messages of the reply cannot be stored: they have no usable id, or that of another message.
    #[must_use]
    pub fn messages_left_out(&self) -> usize {
        self.faults.iter().filter(|fault| fault.path.starts_with("$.chat_messages")).count()
    }

    /// Whether the reply may have said that it is expired, in a way that was not understood.
    #[must_use]
    pub fn hides_expiry(&self) -> bool {
        let places = ["$.is_expired", "$.metadata", "$.metadata.is_expired"];
        self.is_expired.is_none() && self.faults.iter().any(|fault| places.contains(&&*fault.path))
    }

    /// Instacart's integer id of the order, from the first message that has it.
    #[must_use]
    pub fn instacart_order_id(&self) -> Option<i64> {
        self.messages.iter().find_map(|message| message.instacart_order_id)
    }
}
