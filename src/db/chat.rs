//! Schema `chat`: the conversations that analysts query.
//!
//! [`upsert`] writes those of a batch of settled orders set by set: one statement per table, rows sorted by key so
//! that concurrent workers lock them in one order, and no row touched whose content is the same. Facts only grow: see
//! the comments in the statements.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::Error;
use crate::domain::{ChatUser, ChatUserId, Conversation, Message, Settlement, UserType};

/// Rows that a batch changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Added to `chat.messages`.
    pub messages_inserted: u64,
    /// Changed in `chat.messages`, marked as removed included.
    pub messages_updated: u64,
    /// Added to or changed in `chat.users`.
    pub users: u64,
}

/// Writes what the settlements bring. The caller holds their queue rows locked, in the same transaction.
pub async fn upsert(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<Written, Error> {
    let mut written = Written::default();
    let read: Vec<(&Settlement, &Conversation)> = settlements
        .iter()
        .filter_map(|settled| settled.conversation.as_ref().map(|conversation| (*settled, conversation)))
        .collect();
    if !read.is_empty() {
        written.users = upsert_users(connection, &read).await?;
        (written.messages_inserted, written.messages_updated) = upsert_messages(connection, &read).await?;
        written.messages_updated += mark_removed(connection, &read).await?;
        upsert_participants(connection, &read).await?;
    }
    upsert_orders(connection, settlements).await?;
    Ok(written)
}

async fn upsert_messages(
    connection: &mut PgConnection,
    read: &[(&Settlement, &Conversation)],
) -> Result<(u64, u64), Error> {
    let rows: Vec<(&str, &Message)> = read
        .iter()
        .flat_map(|(settled, conversation)| {
            conversation.messages.iter().map(|message| (settled.order_id.as_str(), message))
        })
        .collect();
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let column = Column(&rows);
    let counts = sqlx::query_file!(
        "src/db/sql/upsert_messages.sql",
        &rows.iter().map(|(order_id, _)| *order_id).collect::<Vec<_>>() as &[&str],
        &column.of(|message| message.id),
        &column.of(|message| message.instacart_order_id) as &[Option<i64>],
        &column.of(|message| message.position),
        &column.of(|message| message.created_at) as &[Option<DateTime<Utc>>],
        &column.of(|message| message.sender_type.as_ref().map(UserType::as_str)) as &[Option<&str>],
        &column.of(|message| message.sender_id) as &[Option<i64>],
        &column.of(|message| message.recipient_type.as_ref().map(UserType::as_str)) as &[Option<&str>],
        &column.of(|message| message.recipient_id) as &[Option<i64>],
        &column.of(|message| message.is_read) as &[Option<bool>],
        &column.of(|message| message.read_at) as &[Option<DateTime<Utc>>],
        &column.of(|message| message.body.as_deref()) as &[Option<&str>],
        &column.of(|message| message.image_url.as_deref()) as &[Option<&str>],
        &column.of(|message| message.extra.as_ref().map(|extra| Json(extra.json()))) as &[Option<Json<&RawValue>>],
        &column.of(|message| message.is_altered),
    )
    .fetch_one(connection)
    .await?;
    Ok((counts.inserted.unsigned_abs(), counts.updated.unsigned_abs()))
}

/// The messages of a batch, one column at a time.
struct Column<'a>(&'a [(&'a str, &'a Message)]);

impl<'a> Column<'a> {
    fn of<T>(&self, value: impl Fn(&'a Message) -> T) -> Vec<T> {
        self.0.iter().map(|(_, message)| value(message)).collect()
    }
}

async fn mark_removed(connection: &mut PgConnection, read: &[(&Settlement, &Conversation)]) -> Result<u64, Error> {
    let full: Vec<_> = read.iter().filter(|(settled, _)| settled.marks_removed).collect();
    if full.is_empty() {
        return Ok(0);
    }
    let order_ids: Vec<&str> = full.iter().map(|(settled, _)| settled.order_id.as_str()).collect();
    let seen_at: Vec<DateTime<Utc>> = full.iter().map(|(settled, _)| settled.asked_at).collect();
    let (reply_orders, reply_messages): (Vec<&str>, Vec<i64>) = full
        .iter()
        .flat_map(|(settled, conversation)| {
            conversation.messages.iter().map(|message| (settled.order_id.as_str(), message.id))
        })
        .unzip();
    let result = sqlx::query_file!(
        "src/db/sql/mark_removed.sql",
        &order_ids as &[&str],
        &seen_at,
        &reply_orders as &[&str],
        &reply_messages,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

/// What a batch says of one chat user.
struct Sighting<'a> {
    display_name: Option<&'a str>,
    avatar_url: Option<&'a str>,
    observed_at: DateTime<Utc>,
}

async fn upsert_users(connection: &mut PgConnection, read: &[(&Settlement, &Conversation)]) -> Result<u64, Error> {
    let mut by_age: Vec<_> = read.iter().collect();
    by_age.sort_by_key(|(settled, _)| settled.asked_at);
    // Sorted by key, and each user once: the latest reply of the batch wins, but says nothing by silence.
    let mut users: BTreeMap<ChatUserId, Sighting> = BTreeMap::new();
    for (settled, conversation) in by_age {
        for (id, named) in everybody(conversation) {
            let sighting = users.entry(id).or_insert(Sighting {
                display_name: None,
                avatar_url: None,
                observed_at: settled.asked_at,
            });
            if let Some(user) = named {
                sighting.display_name = user.display_name.as_deref().or(sighting.display_name);
                sighting.avatar_url = user.avatar_url.as_deref().or(sighting.avatar_url);
                sighting.observed_at = settled.asked_at;
            }
        }
    }
    let types: Vec<&str> = users.keys().map(|id| id.user_type.as_str()).collect();
    let ids: Vec<i64> = users.keys().map(|id| id.id).collect();
    let names: Vec<Option<&str>> = users.values().map(|user| user.display_name).collect();
    let avatars: Vec<Option<&str>> = users.values().map(|user| user.avatar_url).collect();
    let observed: Vec<DateTime<Utc>> = users.values().map(|user| user.observed_at).collect();
    if ids.is_empty() {
        return Ok(0);
    }
    let written = sqlx::query_file_scalar!(
        "src/db/sql/upsert_users.sql",
        &types as &[&str],
        &ids,
        &names as &[Option<&str>],
        &avatars as &[Option<&str>],
        &observed,
    )
    .fetch_one(connection)
    .await?;
    Ok(written.unsigned_abs())
}

/// Everybody that a conversation mentions, with what `metadata` says of them.
fn everybody(conversation: &Conversation) -> impl Iterator<Item = (ChatUserId, Option<&ChatUser>)> {
    let metadata = &conversation.metadata;
    let customer = metadata.customer.iter().map(|user| (customer_id(user), Some(user)));
    let shoppers = metadata.all_shoppers().map(|user| (shopper_id(user), Some(user)));
    let others = conversation.messages.iter().flat_map(Message::correspondents).map(|id| (id, None));
    customer.chain(shoppers).chain(others)
}

fn customer_id(user: &ChatUser) -> ChatUserId {
    ChatUserId { user_type: UserType::USER, id: user.id }
}

fn shopper_id(user: &ChatUser) -> ChatUserId {
    ChatUserId { user_type: UserType::DRIVER, id: user.id }
}

async fn upsert_participants(
    connection: &mut PgConnection,
    read: &[(&Settlement, &Conversation)],
) -> Result<(), Error> {
    // Sorted by key, and each role once.
    let mut roles: BTreeMap<(&str, ChatUserId, &str), Option<bool>> = BTreeMap::new();
    let (mut in_charge_of, mut in_charge): (Vec<&str>, Vec<i64>) = (Vec::new(), Vec::new());
    for (settled, conversation) in read {
        let order_id = settled.order_id.as_str();
        let metadata = &conversation.metadata;
        let named: Vec<ChatUserId> =
            everybody(conversation).filter(|(_, user)| user.is_some()).map(|(id, _)| id).collect();
        if let Some(user) = &metadata.customer {
            roles.insert((order_id, customer_id(user), "customer"), Some(false));
        }
        for user in metadata.all_shoppers() {
            let is_current = metadata.current_shopper.as_ref().map(|current| current.id == user.id);
            roles.insert((order_id, shopper_id(user), "shopper"), is_current);
        }
        for id in conversation.messages.iter().flat_map(Message::correspondents).filter(|id| !named.contains(id)) {
            roles.insert((order_id, id, "correspondent"), Some(false));
        }
        if let Some(current) = &metadata.current_shopper {
            in_charge_of.push(order_id);
            in_charge.push(current.id);
        }
    }
    if !in_charge.is_empty() {
        sqlx::query_file!("src/db/sql/relieve_shoppers.sql", &in_charge_of as &[&str], &in_charge)
            .execute(&mut *connection)
            .await?;
    }
    let order_ids: Vec<&str> = roles.keys().map(|(order_id, _, _)| *order_id).collect();
    let types: Vec<&str> = roles.keys().map(|(_, id, _)| id.user_type.as_str()).collect();
    let ids: Vec<i64> = roles.keys().map(|(_, id, _)| id.id).collect();
    let names: Vec<&str> = roles.keys().map(|(_, _, role)| *role).collect();
    let current: Vec<Option<bool>> = roles.values().copied().collect();
    sqlx::query_file!(
        "src/db/sql/upsert_participants.sql",
        &order_ids as &[&str],
        &types as &[&str],
        &ids,
        &names as &[&str],
        &current as &[Option<bool>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn upsert_orders(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<(), Error> {
    let changes: Vec<_> = settlements.iter().filter_map(|settled| Some((*settled, settled.order?))).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let of_conversation = |value: fn(&Conversation) -> Option<i64>| -> Vec<Option<i64>> {
        changes.iter().map(|(settled, _)| settled.conversation.as_ref().and_then(value)).collect()
    };
    let customer = |read: &Conversation| read.metadata.customer.as_ref().map(|user| user.id);
    let shopper = |read: &Conversation| read.metadata.current_shopper.as_ref().map(|user| user.id);
    sqlx::query_file!(
        "src/db/sql/upsert_orders.sql",
        &changes.iter().map(|(settled, _)| settled.order_id.as_str()).collect::<Vec<_>>() as &[&str],
        &changes.iter().map(|(_, order)| order.status.as_str()).collect::<Vec<_>>() as &[&str],
        &changes.iter().map(|(_, order)| order.coverage.as_str()).collect::<Vec<_>>() as &[&str],
        &changes.iter().map(|(_, order)| order.closed_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &of_conversation(Conversation::instacart_order_id) as &[Option<i64>],
        &of_conversation(customer) as &[Option<i64>],
        &of_conversation(shopper) as &[Option<i64>],
        &changes.iter().map(|(settled, _)| settled.conversation.is_some()).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
