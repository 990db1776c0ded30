//! Orders that have no row in schema `chat` yet. The holder of their leases knows that none of their rows exist, so
//! they are copied in without looking.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::people;
use super::rows::{messages_left_out, number, read};
use crate::db::Error;
use crate::db::copy::copy_rows;
use crate::domain::{Conversation, Settlement, UserType};

/// Adds orders with their messages and participants. Returns how many messages.
pub(super) async fn orders(connection: &mut PgConnection, new: &[&Settlement]) -> Result<u64, Error> {
    let read = read(new);
    let messages: Vec<_> =
        read.iter().flat_map(|(settled, read)| read.messages.iter().map(|message| (*settled, message))).collect();
    let participants: Vec<_> = people::participations(&read).into_iter().collect();
    let orders: Vec<_> = new
        .iter()
        .filter_map(|settled| Some((*settled, settled.chat.order?, Totals::of(settled.chat.conversation.as_ref()))))
        .collect();
    copy_rows!(connection, "chat.messages", &messages, |(settled, message)| {
        order_id = settled.order_id.as_str(),
        message_id = message.id,
        instacart_order_id = message.instacart_order_id,
        position = message.position,
        created_at = message.created_at,
        sender_type = message.sender_type.as_ref().map(UserType::as_str),
        sender_id = message.sender_id,
        recipient_type = message.recipient_type.as_ref().map(UserType::as_str),
        recipient_id = message.recipient_id,
        is_read = message.is_read,
        read_at = message.read_at,
        body = message.body.as_deref(),
        body_length = message.body.as_ref().map(|body| number(body.chars().count())),
        image_url = message.image_url.as_deref(),
        extra = message.extra.as_ref().map(|extra| Json(extra.json())),
        unreadable = (!message.unreadable.is_empty()).then_some(message.unreadable.as_slice()),
        is_altered = message.is_altered,
    })
    .await?;
    copy_rows!(
        connection,
        "chat.participants",
        &participants,
        |((order_id, user, role), is_current)| {
            order_id = *order_id,
            user_type = user.user_type.as_str(),
            user_id = user.id,
            role = *role,
            is_current = is_current.unwrap_or(false),
        }
    )
    .await?;
    copy_rows!(connection, "chat.orders", &orders, |(settled, order, read)| {
        order_id = settled.order_id.as_str(),
        status = order.status.as_str(),
        coverage = order.coverage.as_str(),
        closed_at = order.closed_at,
        instacart_order_id = read.instacart_order_id,
        customer_id = read.customer_id,
        current_shopper_id = read.current_shopper_id,
        message_count = read.message_count,
        first_message_at = read.first_message_at,
        last_message_at = read.last_message_at,
        messages_left_out = messages_left_out(settled).unwrap_or(0),
    })
    .await?;
    Ok(messages.len() as u64)
}

/// What a row of `chat.orders` says about the messages.
struct Totals {
    instacart_order_id: Option<i64>,
    customer_id: Option<i64>,
    current_shopper_id: Option<i64>,
    message_count: i32,
    first_message_at: Option<DateTime<Utc>>,
    last_message_at: Option<DateTime<Utc>>,
}

impl Totals {
    fn of(conversation: Option<&Conversation>) -> Self {
        let nothing = &Conversation::default();
        let conversation = conversation.unwrap_or(nothing);
        let times = || conversation.messages.iter().filter_map(|message| message.created_at);
        Self {
            instacart_order_id: conversation.instacart_order_id(),
            customer_id: conversation.metadata.customer.as_ref().map(|user| user.id),
            current_shopper_id: conversation.metadata.current_shopper.as_ref().map(|user| user.id),
            message_count: number(conversation.messages.len()),
            first_message_at: times().min(),
            last_message_at: times().max(),
        }
    }
}
