//! The participants of the conversations of a batch: each chat user once, each role once, sorted by key.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::rows::Read;
use crate::domain::{ChatUser, ChatUserId, Conversation, Message, UserType};

/// What a batch says about one chat user.
pub(super) struct Sighting<'a> {
    pub(super) display_name: Option<&'a str>,
    pub(super) avatar_url: Option<&'a str>,
    pub(super) observed_at: DateTime<Utc>,
}

/// Order id, user and role.
pub(super) type Participation<'a> = (&'a str, ChatUserId, &'static str);

/// All chat users of a batch. The latest reply wins; a missing name or picture erases none.
pub(super) fn users<'a>(read: &[Read<'a>]) -> BTreeMap<ChatUserId, Sighting<'a>> {
    let mut by_age: Vec<_> = read.iter().collect();
    by_age.sort_by_key(|(settled, _)| settled.attempt.asked_at);
    let mut users: BTreeMap<ChatUserId, Sighting> = BTreeMap::new();
    for (settled, conversation) in by_age {
        let others = correspondents(conversation).into_iter().map(|id| (id, None));
        for (id, named) in named(conversation).map(|(id, user)| (id, Some(user))).chain(others) {
            let sighting = users.entry(id).or_insert(Sighting {
                display_name: None,
                avatar_url: None,
                observed_at: settled.attempt.asked_at,
            });
            if let Some(user) = named {
                sighting.display_name = user.display_name.as_deref().or(sighting.display_name);
                sighting.avatar_url = user.avatar_url.as_deref().or(sighting.avatar_url);
                sighting.observed_at = settled.attempt.asked_at;
            }
        }
    }
    users
}

/// All roles, and whether the user is in charge of the order now; `None` if the reply does not say.
pub(super) fn participations<'a>(read: &[Read<'a>]) -> BTreeMap<Participation<'a>, Option<bool>> {
    let mut participations = BTreeMap::new();
    for (settled, conversation) in read {
        let order_id = settled.order_id.as_str();
        let metadata = &conversation.metadata;
        let named: Vec<ChatUserId> = named(conversation).map(|(id, _)| id).collect();
        if let Some(user) = &metadata.customer {
            participations.insert((order_id, customer_id(user), "customer"), Some(false));
        }
        for user in metadata.all_shoppers() {
            let is_current = metadata.current_shopper.as_ref().map(|current| current.id == user.id);
            participations.insert((order_id, shopper_id(user), "shopper"), is_current);
        }
        for id in correspondents(conversation).into_iter().filter(|id| !named.contains(id)) {
            participations.insert((order_id, id, "correspondent"), Some(false));
        }
    }
    participations
}

/// The users that `metadata` names.
fn named(conversation: &Conversation) -> impl Iterator<Item = (ChatUserId, &ChatUser)> {
    let metadata = &conversation.metadata;
    let customer = metadata.customer.iter().map(|user| (customer_id(user), user));
    customer.chain(metadata.all_shoppers().map(|user| (shopper_id(user), user)))
}

/// Senders and recipients, each once. Sorted and deduplicated at the end: cheaper than a set for few messages.
fn correspondents(conversation: &Conversation) -> Vec<ChatUserId> {
    let mut mentioned = Vec::with_capacity(conversation.messages.len() * 2);
    mentioned.extend(conversation.messages.iter().flat_map(Message::correspondents));
    mentioned.sort_unstable();
    mentioned.dedup();
    mentioned
}

fn customer_id(user: &ChatUser) -> ChatUserId {
    ChatUserId { user_type: UserType::User, id: user.id }
}

fn shopper_id(user: &ChatUser) -> ChatUserId {
    ChatUserId { user_type: UserType::Driver, id: user.id }
}
