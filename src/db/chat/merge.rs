//! Orders that have rows already: rows are compared with the stored ones and written only if they differ.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::people;
use super::rows::{Read, messages_left_out, read};
use crate::db::Error;
use crate::db::columns::{column, query_columns};
use crate::domain::{Conversation, Message, Settlement, UserType};

/// Updates orders with their messages and participants. Returns how many messages were added and changed.
pub(super) async fn orders(connection: &mut PgConnection, stored: &[&Settlement]) -> Result<(u64, u64), Error> {
    let read = read(stored);
    let (inserted, updated) = messages(connection, &read).await?;
    let removed = mark_removed(connection, &read).await?;
    participants(connection, &read).await?;
    update_orders(connection, stored).await?;
    Ok((inserted, updated + removed))
}

/// Adds and updates chat users. Returns how many rows were written.
pub(super) async fn users(connection: &mut PgConnection, read: &[Read<'_>]) -> Result<u64, Error> {
    let users = people::users(read);
    if users.is_empty() {
        return Ok(0);
    }
    let types: Vec<&str> = users.keys().map(|id| id.user_type.as_str()).collect();
    let ids: Vec<i64> = users.keys().map(|id| id.id).collect();
    let names: Vec<Option<&str>> = users.values().map(|user| user.display_name).collect();
    let avatars: Vec<Option<&str>> = users.values().map(|user| user.avatar_url).collect();
    let observed: Vec<DateTime<Utc>> = users.values().map(|user| user.observed_at).collect();
    let written = query_columns!(
        query_file_scalar "src/db/sql/upsert_users.sql",
        user_type: &[&str] = &types,
        user_id: &[i64] = &ids,
        display_name: &[Option<&str>] = &names,
        avatar_url: &[Option<&str>] = &avatars,
        observed_at: &[DateTime<Utc>] = &observed,
    )
    .fetch_one(connection)
    .await?;
    Ok(written.unsigned_abs())
}

async fn messages(connection: &mut PgConnection, read: &[Read<'_>]) -> Result<(u64, u64), Error> {
    let rows: Vec<(&str, &Message)> = read
        .iter()
        .flat_map(|(settled, conversation)| {
            conversation.messages.iter().map(|message| (settled.order_id.as_str(), message))
        })
        .collect();
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let counts = query_columns!(
        query_file "src/db/sql/upsert_messages.sql",
        order_id: &[&str] = &column(&rows, |(order_id, _)| *order_id),
        message_id: &[i64] = &column(&rows, |(_, message)| message.id),
        instacart_order_id: &[Option<i64>] = &column(&rows, |(_, message)| message.instacart_order_id),
        position: &[i32] = &column(&rows, |(_, message)| message.position),
        created_at: &[Option<DateTime<Utc>>] = &column(&rows, |(_, message)| message.created_at),
        sender_type: &[Option<&str>] = &column(&rows, |(_, message)| message.sender_type.as_ref().map(UserType::as_str)),
        sender_id: &[Option<i64>] = &column(&rows, |(_, message)| message.sender_id),
        recipient_type: &[Option<&str>] = &column(&rows, |(_, message)| message.recipient_type.as_ref().map(UserType::as_str)),
        recipient_id: &[Option<i64>] = &column(&rows, |(_, message)| message.recipient_id),
        is_read: &[Option<bool>] = &column(&rows, |(_, message)| message.is_read),
        read_at: &[Option<DateTime<Utc>>] = &column(&rows, |(_, message)| message.read_at),
        body: &[Option<&str>] = &column(&rows, |(_, message)| message.body.as_deref()),
        image_url: &[Option<&str>] = &column(&rows, |(_, message)| message.image_url.as_deref()),
        extra: &[Option<Json<&RawValue>>] = &column(&rows, |(_, message)| message.extra.as_ref().map(|extra| Json(extra.json()))),
        // PostgreSQL accepts only rectangular arrays of arrays.
        unreadable: &[Option<String>] =
            &column(&rows, |(_, message)| (!message.unreadable.is_empty()).then(|| message.unreadable.join(","))),
        is_altered: &[bool] = &column(&rows, |(_, message)| message.is_altered),
    )
    .fetch_one(connection)
    .await?;
    let (inserted, updated) = (counts.inserted.unsigned_abs(), counts.updated.unsigned_abs());
    if inserted + updated < counts.sent.unsigned_abs() {
        return Err(Error::RowsDropped { table: "chat.messages" });
    }
    Ok((inserted, updated))
}

async fn mark_removed(connection: &mut PgConnection, read: &[Read<'_>]) -> Result<u64, Error> {
    let full: Vec<_> = read.iter().filter(|(settled, _)| settled.chat.marks_removed).collect();
    if full.is_empty() {
        return Ok(0);
    }
    let order_ids: Vec<&str> = full.iter().map(|(settled, _)| settled.order_id.as_str()).collect();
    let seen_at: Vec<DateTime<Utc>> = full.iter().map(|(settled, _)| settled.attempt.asked_at).collect();
    let (reply_orders, reply_messages): (Vec<&str>, Vec<i64>) = full
        .iter()
        .flat_map(|(settled, conversation)| {
            conversation.messages.iter().map(|message| (settled.order_id.as_str(), message.id))
        })
        .unzip();
    let result = query_columns!(
        query_file "src/db/sql/mark_removed.sql",
        order_id: &[&str] = &order_ids,
        seen_at: &[DateTime<Utc>] = &seen_at,
        order_id: &[&str] = &reply_orders,
        message_id: &[i64] = &reply_messages,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

async fn participants(connection: &mut PgConnection, read: &[Read<'_>]) -> Result<(), Error> {
    let (in_charge_of, in_charge): (Vec<&str>, Vec<i64>) = read
        .iter()
        .filter_map(|(settled, conversation)| {
            Some((settled.order_id.as_str(), conversation.metadata.current_shopper.as_ref()?.id))
        })
        .unzip();
    if !in_charge.is_empty() {
        sqlx::query_file!("src/db/sql/relieve_shoppers.sql", &in_charge_of as &[&str], &in_charge)
            .execute(&mut *connection)
            .await?;
    }
    let participations = people::participations(read);
    if participations.is_empty() {
        return Ok(());
    }
    let order_ids: Vec<&str> = participations.keys().map(|(order_id, _, _)| *order_id).collect();
    let types: Vec<&str> = participations.keys().map(|(_, id, _)| id.user_type.as_str()).collect();
    let ids: Vec<i64> = participations.keys().map(|(_, id, _)| id.id).collect();
    let roles: Vec<&str> = participations.keys().map(|(_, _, role)| *role).collect();
    let current: Vec<Option<bool>> = participations.values().copied().collect();
    query_columns!(
        query_file "src/db/sql/upsert_participants.sql",
        order_id: &[&str] = &order_ids,
        user_type: &[&str] = &types,
        user_id: &[i64] = &ids,
        role: &[&str] = &roles,
        is_current: &[Option<bool>] = &current,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Must run last: it counts the rows of `chat.messages`.
async fn update_orders(connection: &mut PgConnection, stored: &[&Settlement]) -> Result<(), Error> {
    let changes: Vec<_> = stored.iter().filter_map(|settled| Some((*settled, settled.chat.order?))).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let of_conversation = |value: fn(&Conversation) -> Option<i64>| -> Vec<Option<i64>> {
        column(&changes, |(settled, _)| settled.chat.conversation.as_ref().and_then(value))
    };
    let customer = |read: &Conversation| read.metadata.customer.as_ref().map(|user| user.id);
    let shopper = |read: &Conversation| read.metadata.current_shopper.as_ref().map(|user| user.id);
    query_columns!(
        query_file "src/db/sql/upsert_orders.sql",
        order_id: &[&str] = &column(&changes, |(settled, _)| settled.order_id.as_str()),
        status: &[&str] = &column(&changes, |(_, order)| order.status.as_str()),
        coverage: &[&str] = &column(&changes, |(_, order)| order.coverage.as_str()),
        closed_at: &[Option<DateTime<Utc>>] = &column(&changes, |(_, order)| order.closed_at),
        instacart_order_id: &[Option<i64>] = &of_conversation(Conversation::instacart_order_id),
        customer_id: &[Option<i64>] = &of_conversation(customer),
        current_shopper_id: &[Option<i64>] = &of_conversation(shopper),
        has_conversation: &[bool] =
            &column(&changes, |(settled, _)| settled.chat.conversation.is_some()),
        messages_left_out: &[Option<i32>] =
            &column(&changes, |(settled, _)| messages_left_out(settled)),
    )
    .execute(connection)
    .await?;
    Ok(())
}
