//! The hashes that detect whether a conversation is the stored one.
//!
//! Every value is hashed with its length or end, so that no two conversations give the same bytes. Structs are
//! destructured field by field: a new field that is forgotten here does not compile.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::conversation::{ChatUser, Conversation, Message, Metadata, UserType};

/// Returns the SHA-256 of a reply's body and of this program's version: another version may decode more from the same
/// bytes. Equal bytes need no decoding; hashing takes a tenth of its time.
#[must_use]
pub fn reply_hash(body: &[u8]) -> Vec<u8> {
    Sha256::new_with_prefix(env!("CARGO_PKG_VERSION")).chain_update(VERSION).chain_update(body).finalize().to_vec()
}

impl Conversation {
    /// Returns the SHA-256 of everything that is stored of this reply. With an equal hash there is nothing to write.
    #[must_use]
    pub fn content_hash(&self) -> Vec<u8> {
        Fingerprint::of(self)
    }
}

/// Change it with the meaning of the stored columns: then every conversation is compared once more.
const VERSION: &[u8] = b"chatsync 3\n";

/// Bytes are hashed in blocks of about this length: one by one they take longer than the hash itself. Small enough for
/// the stack: an allocated buffer per order is slower.
const BLOCK: usize = 1024;

/// A hash, and the bytes that are not yet hashed.
struct Fingerprint {
    hash: Sha256,
    bytes: [u8; BLOCK],
    /// Number of bytes in the buffer.
    length: usize,
}

impl Fingerprint {
    fn of(conversation: &Conversation) -> Vec<u8> {
        let Conversation { messages, metadata, is_expired, faults } = conversation;
        let mut all = Self::new();
        all.put(VERSION);
        all.list(messages, Self::message);
        all.metadata(metadata);
        all.maybe(is_expired.as_ref(), |all, value| all.put(&[u8::from(*value)]));
        all.list(faults, |all, fault| {
            all.text(&fault.path);
            all.text(&fault.reason);
            all.text(fault.body());
            all.number(fault.body_bytes() as u64);
        });
        all.finish()
    }

    fn new() -> Self {
        Self { hash: Sha256::new(), bytes: [0; BLOCK], length: 0 }
    }

    fn finish(mut self) -> Vec<u8> {
        self.hash.update(&self.bytes[..self.length]);
        self.hash.finalize().to_vec()
    }

    fn message(&mut self, message: &Message) {
        let Message {
            id,
            position,
            instacart_order_id,
            created_at,
            sender_type,
            sender_id,
            recipient_type,
            recipient_id,
            is_read,
            read_at,
            body,
            image_url,
            extra,
            unreadable,
            is_altered,
        } = message;
        self.integer(*id);
        self.integer((*position).into());
        self.maybe(instacart_order_id.as_ref(), |all, id| all.integer(*id));
        self.maybe(created_at.as_ref(), Self::time);
        self.maybe(sender_type.as_ref().map(UserType::as_str), Self::text);
        self.maybe(sender_id.as_ref(), |all, id| all.integer(*id));
        self.maybe(recipient_type.as_ref().map(UserType::as_str), Self::text);
        self.maybe(recipient_id.as_ref(), |all, id| all.integer(*id));
        self.maybe(is_read.as_ref(), |all, value| all.put(&[u8::from(*value)]));
        self.maybe(read_at.as_ref(), Self::time);
        self.maybe(body.as_deref(), Self::text);
        self.maybe(image_url.as_deref(), Self::text);
        self.maybe(extra.as_ref().map(|extra| extra.json().get()), Self::text);
        self.list(unreadable, |all, name| all.text(name));
        self.put(&[u8::from(*is_altered)]);
    }

    fn metadata(&mut self, metadata: &Metadata) {
        let Metadata { customer, current_shopper, shoppers } = metadata;
        self.maybe(customer.as_ref(), Self::user);
        self.maybe(current_shopper.as_ref(), Self::user);
        self.list(shoppers, Self::user);
    }

    fn user(&mut self, user: &ChatUser) {
        let ChatUser { id, display_name, avatar_url } = user;
        self.integer(*id);
        self.maybe(display_name.as_deref(), Self::text);
        self.maybe(avatar_url.as_deref(), Self::text);
    }

    fn list<T>(&mut self, list: &[T], put: impl Fn(&mut Self, &T)) {
        self.number(list.len() as u64);
        for element in list {
            put(self, element);
        }
    }

    fn maybe<T: ?Sized>(&mut self, value: Option<&T>, put: impl Fn(&mut Self, &T)) {
        self.put(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.put(text.as_bytes());
    }

    fn time(&mut self, time: &DateTime<Utc>) {
        self.integer(time.timestamp());
        self.number(time.timestamp_subsec_nanos().into());
    }

    fn integer(&mut self, integer: i64) {
        self.put(&integer.to_le_bytes());
    }

    fn number(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.length + bytes.len() > BLOCK {
            self.hash.update(&self.bytes[..self.length]);
            self.length = 0;
        }
        if bytes.len() > BLOCK {
            self.hash.update(bytes);
        } else {
            self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_are_hashed_whole() {
        for before in [0, 1, 500, BLOCK - 1, BLOCK] {
            for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
                let (first, second) = ("a".repeat(before), "b".repeat(length));
                let mut all = Fingerprint::new();
                all.put(first.as_bytes());
                all.put(second.as_bytes());
                all.put(b"c");
                let expected = Sha256::digest(format!("{first}{second}c")).to_vec();
                assert_eq!(all.finish(), expected, "{before} bytes, {length} bytes");
            }
        }
    }

    #[test]
    fn stored_fingerprints_are_found_again() {
        let message = Message {
            id: 1,
            instacart_order_id: Some(2),
            created_at: DateTime::from_timestamp(1_700_000_000, 5),
            sender_type: Some(UserType::User),
            sender_id: Some(3),
            recipient_type: Some(UserType::Other("bot".into())),
            is_read: Some(true),
            body: Some("Hello".into()),
            ..Message::default()
        };
        let shopper = ChatUser { id: 4, display_name: Some("S".to_owned()), avatar_url: None };
        let metadata = Metadata { customer: None, current_shopper: None, shoppers: vec![shopper] };
        let conversation =
            Conversation { messages: vec![message], metadata, is_expired: Some(false), faults: Vec::new() };
        let hash = Fingerprint::of(&conversation).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        // The hash that databases hold. If it changes, change VERSION as well.
        assert_eq!(hash, "dfa684abfe05019d6894bfbb231556eba4aa263cb1e13db1f9e2f8170f411264");
    }
}
