//! Reads the fields of a reply beside its messages: `is_expired` and the chat users, for both decoders.

use serde_json::value::RawValue;

use super::object::{Object, keep};
use crate::connect::text::says_nothing;
use crate::domain::{ChatUser, Conversation, Fault, Metadata};

/// Most shoppers in one reply. An order has a handful.
pub(super) const MAX_SHOPPERS: usize = 1_000;

/// Reads `is_expired` at both places; true wins.
pub(super) fn read_expiry(root: &Object, metadata: Option<&Object>, conversation: &mut Conversation) {
    for object in [Some(root), metadata].into_iter().flatten() {
        let is_expired = keep(object.bool("is_expired"), object.raw("is_expired"), &mut conversation.faults).flatten();
        conversation.is_expired = conversation.is_expired.max(is_expired);
    }
}

pub(super) fn read_metadata(metadata: &Object, faults: &mut Vec<Fault>) -> Metadata {
    let mut named = |name: &str| {
        let user = keep(metadata.object(name), metadata.raw(name), faults).flatten()?;
        read_user(&user, metadata.raw(name), faults)
    };
    let (customer, current_shopper) = (named("customer"), named("current_shopper"));
    let list = match metadata.raw("shoppers") {
        Some(raw) if says_nothing(raw.get().as_bytes()) => Vec::new(),
        raw => keep(metadata.list("shoppers", MAX_SHOPPERS), raw, faults).unwrap_or_default(),
    };
    let mut shoppers: Vec<ChatUser> = Vec::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate().filter(|(_, raw)| !says_nothing(raw.get().as_bytes())) {
        let user = Object::read(raw.get(), &format!("$.metadata.shoppers[{index}]"));
        let user = keep(user, Some(raw), faults);
        shoppers.extend(user.and_then(|user| read_user(&user, Some(raw), faults)));
    }
    Metadata { customer, current_shopper, shoppers }
}

/// Reads a chat user. An object whose fields are all null is no user.
fn read_user(object: &Object, raw: Option<&RawValue>, faults: &mut Vec<Fault>) -> Option<ChatUser> {
    if object.says_nothing() {
        return None;
    }
    let id = object
        .integer("id")
        .and_then(|id| id.ok_or_else(|| object.wrong("id", "missing: without it the user has no identity")));
    let id = keep(id, raw, faults)?;
    let display_name = keep(object.words("display_name"), object.raw("display_name"), faults).flatten();
    let avatar_url = keep(object.text("avatar_url"), object.raw("avatar_url"), faults).flatten();
    Some(ChatUser {
        id,
        display_name: display_name.map(|name| name.text.into_owned()),
        avatar_url: avatar_url.map(|url| url.text.into_owned()).filter(|url| !url.is_empty()),
    })
}
