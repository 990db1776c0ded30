//! Orders that have no row in schema `chat` yet. The holder of their leases knows that none of their rows exist, so
//! they are copied in without looking.

use sqlx::PgConnection;
use sqlx::types::Json;

use super::people::{self, Participation};
use super::rows::{messages_left_out, read};
use crate::db::Error;
use crate::db::copy::{CopyRow, copy};
use crate::domain::{Conversation, Message, OrderChange, Settlement, UserType};

const MESSAGES: (&str, &str) = (
    "chat.messages",
    "
    COPY chat.messages (
        order_id, message_id, instacart_order_id, position, created_at, sender_type, sender_id, recipient_type,
        recipient_id, is_read, read_at, body, body_length, image_url, extra, unreadable, is_altered
    ) FROM STDIN (FORMAT binary)",
);

const PARTICIPANTS: (&str, &str) = (
    "chat.participants",
    "
    COPY chat.participants (order_id, user_type, user_id, role, is_current) FROM STDIN (FORMAT binary)",
);

const ORDERS: (&str, &str) = (
    "chat.orders",
    "
    COPY chat.orders (
        order_id, status, coverage, closed_at, instacart_order_id, customer_id, current_shopper_id, message_count,
        first_message_at, last_message_at, messages_left_out
    ) FROM STDIN (FORMAT binary)",
);

/// Adds orders with their messages and participants. Returns how many messages.
pub(super) async fn orders(connection: &mut PgConnection, new: &[&Settlement]) -> Result<u64, Error> {
    let read = read(new);
    let messages: Vec<_> =
        read.iter().flat_map(|(settled, read)| read.messages.iter().map(|message| (*settled, message))).collect();
    let participants: Vec<_> = people::participations(&read).into_iter().collect();
    let orders: Vec<_> = new.iter().filter_map(|settled| Some((*settled, settled.chat.order?))).collect();
    copy(connection, MESSAGES, &messages, put_message).await?;
    copy(connection, PARTICIPANTS, &participants, put_participant).await?;
    copy(connection, ORDERS, &orders, put_order).await?;
    Ok(messages.len() as u64)
}

fn put_message(row: &mut CopyRow, (settled, message): &(&Settlement, &Message)) -> Result<(), Error> {
    let length = message.body.as_ref().map(|body| i32::try_from(body.chars().count()).unwrap_or(i32::MAX));
    row.put(settled.order_id.as_str())?
        .put(message.id)?
        .put(message.instacart_order_id)?
        .put(message.position)?
        .put(message.created_at)?
        .put(message.sender_type.as_ref().map(UserType::as_str))?
        .put(message.sender_id)?
        .put(message.recipient_type.as_ref().map(UserType::as_str))?
        .put(message.recipient_id)?
        .put(message.is_read)?
        .put(message.read_at)?
        .put(message.body.as_deref())?
        .put(length)?
        .put(message.image_url.as_deref())?
        .put(message.extra.as_ref().map(|extra| Json(extra.json())))?
        .put((!message.unreadable.is_empty()).then_some(message.unreadable.as_slice()))?
        .put(message.is_altered)?;
    Ok(())
}

fn put_participant(
    row: &mut CopyRow,
    ((order_id, user, role), is_current): &(Participation<'_>, Option<bool>),
) -> Result<(), Error> {
    row.put(*order_id)?.put(user.user_type.as_str())?.put(user.id)?.put(*role)?.put(is_current.unwrap_or(false))?;
    Ok(())
}

fn put_order(row: &mut CopyRow, (settled, order): &(&Settlement, OrderChange)) -> Result<(), Error> {
    let nothing = &Conversation::default();
    let conversation = settled.chat.conversation.as_ref().unwrap_or(nothing);
    let times = || conversation.messages.iter().filter_map(|message| message.created_at);
    row.put(settled.order_id.as_str())?
        .put(order.status.as_str())?
        .put(order.coverage.as_str())?
        .put(order.closed_at)?
        .put(conversation.instacart_order_id())?
        .put(conversation.metadata.customer.as_ref().map(|user| user.id))?
        .put(conversation.metadata.current_shopper.as_ref().map(|user| user.id))?
        .put(i32::try_from(conversation.messages.len()).unwrap_or(i32::MAX))?
        .put(times().min())?
        .put(times().max())?
        .put(messages_left_out(settled).unwrap_or(0))?;
    Ok(())
}
