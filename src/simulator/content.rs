//! Generates the conversation of an order as the bytes of the reply.
//!
//! Called once per chat request, and by tests for the expected content. Invariant: the reply is a pure function of the
//! options, the order id and either the time (with a lifecycle) or whether read receipts have appeared. Time only adds
//! messages and receipts, until the order expires.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::field::Field;
use super::life::{Life, Lifecycle, Phase};
use super::options::{Options, ReplyAge};
use super::orders::{self, Fate};
use super::people::{ChatUser, PersonKind, Profile};
use super::phrases::{Language, Stage};
use super::random::{hash, id, mix, one_in};
use super::times::Clock;

const CONVERSATION: u64 = 21;
const ORDER_NUMBER: u64 = 22;
const FIRST_MESSAGE: u64 = 23;
const SHAPE: u64 = 24;

/// Messages of the longest conversation.
const MAX_MESSAGES: u32 = 40;

#[derive(Serialize)]
struct Reply {
    #[serde(skip_serializing_if = "Field::is_absent")]
    is_expired: Field<bool>,
    chat_messages: Vec<Message>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    metadata: Field<Metadata>,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Field::is_absent")]
    is_expired: Field<bool>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    customer: Field<Profile>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    current_shopper: Field<Profile>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    shoppers: Field<Vec<Profile>>,
}

#[derive(Serialize)]
struct Message {
    id: u64,
    order_id: u64,
    created_at: String,
    recipient_id: u64,
    recipient_type: PersonKind,
    sender_id: u64,
    sender_type: PersonKind,
    #[serde(skip_serializing_if = "Field::is_absent")]
    read: Field<bool>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    read_at: Field<String>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    body: Field<String>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    image: Field<String>,
}

/// The participants of a conversation.
struct Cast {
    customer: ChatUser,
    /// The last one is the current shopper; never empty if there are messages.
    shoppers: Vec<ChatUser>,
}

/// How much of a conversation is visible.
#[derive(Clone, Copy)]
pub(super) enum View {
    /// All of it, unless the order is expired; `receipts` says whether read receipts have appeared.
    Whole { receipts: bool },
    /// What has happened by this time.
    At(Life, DateTime<Utc>),
    /// Nothing any more.
    Forgotten,
}

/// Returns the JSON body of the reply about `order_id`; `None` if there is no such order (404). `receipts` says
/// whether read receipts have appeared. Ignores a lifecycle: see `reply_at`.
#[must_use]
pub fn reply(options: &Options, order_id: &str, receipts: bool) -> Option<Vec<u8>> {
    seen(options, order_id, View::Whole { receipts })
}

/// Returns the JSON body of the reply about `order_id` at a time of the lifecycle; `None` if there is no such order
/// yet (404).
#[must_use]
pub fn reply_at(options: &Options, lifecycle: Lifecycle, order_id: &str, now: DateTime<Utc>) -> Option<Vec<u8>> {
    seen(options, order_id, View::At(Life::of(lifecycle, options.seed, order_id), now))
}

/// Returns the JSON body of the reply with this view; `None` if there is no such order (404).
pub(super) fn seen(options: &Options, order_id: &str, view: View) -> Option<Vec<u8>> {
    let expired = match (orders::fate(options, order_id), view) {
        (Fate::NotFound, _) => return None,
        (fate, View::Whole { .. }) => fate == Fate::Expired,
        (_, View::Forgotten) => true,
        (_, View::At(life, now)) => match life.phase(now) {
            Phase::NotPlaced => return None,
            Phase::Readable => false,
            Phase::Expired => true,
        },
    };
    let order = hash(options.seed, order_id);
    let mut rng = fastrand::Rng::with_seed(mix(order, CONVERSATION));
    let length = conversation_length(&mut rng);
    let mut cast = Cast::draw(options, order_id, length, &mut rng);
    let chat_messages = if expired { Vec::new() } else { messages(options.seed, order, length, &cast, view, &mut rng) };
    if matches!(view, View::At(..)) && !expired {
        cast.keep_those_of(chat_messages.len(), length);
    }

    // A separate generator, so that the shape does not depend on the draws for the messages.
    let mut rng = fastrand::Rng::with_seed(mix(order, SHAPE));
    let (outside, inside) = match options.reply_age {
        ReplyAge::Old => (Field::Absent, Field::Absent),
        ReplyAge::New if rng.bool() => (Field::Value(expired), Field::Absent),
        ReplyAge::New => (Field::Absent, Field::Value(expired)),
    };
    let bare = chat_messages.is_empty() && inside.is_absent() && one_in(&mut rng, 20);
    let reply = Reply {
        is_expired: outside,
        metadata: if bare { Field::nothing(&mut rng) } else { Field::Value(cast.metadata(inside, &mut rng)) },
        chat_messages,
    };
    Some(reply.into_json())
}

impl Reply {
    fn into_json(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(512 + 384 * self.chat_messages.len());
        serde_json::to_writer(&mut body, &self).expect("plain fields into memory always serialise");
        body
    }
}

/// Draws the length: many short conversations, a few long ones, one in eight empty; nine messages on average.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is not negative, cut to an integer and capped"
)]
fn conversation_length(rng: &mut fastrand::Rng) -> u32 {
    let skewed = -10.0 * (1.0 - rng.f64()).ln();
    if one_in(rng, 8) { 0 } else { (skewed as u32 + 1).min(MAX_MESSAGES) }
}

fn messages(seed: u64, order: u64, length: u32, cast: &Cast, view: View, rng: &mut fastrand::Rng) -> Vec<Message> {
    let language = Language::draw(rng);
    let order_number = id(mix(order, ORDER_NUMBER));
    let mut message_id = id(mix(order, FIRST_MESSAGE));
    let mut clock = match view {
        View::At(life, _) => Clock::during(life, length),
        View::Whole { .. } | View::Forgotten => Clock::start(rng),
    };
    let stray = one_in(rng, 12).then(|| rng.u32(..length.max(1)));
    let mut shopper_writes = rng.u32(..4) > 0;

    let mut messages = Vec::with_capacity(length as usize);
    for number in 0..length {
        message_id += rng.u64(1..2_000);
        clock.advance(rng);
        if matches!(view, View::At(_, now) if clock.time(0) > now) {
            break;
        }
        shopper_writes ^= rng.u32(..10) < 7;
        let stage = match number * 5 / length {
            0 => Stage::Start,
            4 => Stage::Delivery,
            _ => Stage::Shopping,
        };
        let shopper = cast.shopper_at(number, length);
        let (mut sender, mut recipient) =
            if shopper_writes { (shopper, cast.customer) } else { (cast.customer, shopper) };
        let body = language.body(rng, sender.kind, stage);
        if stray == Some(number) {
            *pick_mut(rng, &mut sender, &mut recipient) = ChatUser::stranger(seed, rng);
        }
        let (body, image) = illustrated(rng, body);
        let (read, read_at) = receipt(rng, &clock, view);
        messages.push(Message {
            id: message_id,
            order_id: order_number,
            created_at: clock.now(),
            recipient_id: recipient.id,
            recipient_type: recipient.kind,
            sender_id: sender.id,
            sender_type: sender.kind,
            read,
            read_at,
            body,
            image,
        });
    }
    messages
}

fn pick_mut<'a, T>(rng: &mut fastrand::Rng, first: &'a mut T, second: &'a mut T) -> &'a mut T {
    if rng.bool() { first } else { second }
}

/// Returns body and image: one message in twelve is a picture, half of these without text.
fn illustrated(rng: &mut fastrand::Rng, body: String) -> (Field<String>, Field<String>) {
    if !one_in(rng, 12) {
        let image = if one_in(rng, 4) { Field::Null } else { Field::Absent };
        return (Field::Value(body), image);
    }
    let image = format!("https://images.example/chat/{:016x}.jpg", rng.u64(..));
    let body = match rng.u8(..6) {
        0 => Field::Null,
        1 => Field::Absent,
        2 => Field::Value(String::new()),
        _ => Field::Value(body),
    };
    (body, Field::Value(image))
}

/// Returns `read` and `read_at`. Draws equally many numbers with and without receipts, so that what follows does not
/// change.
fn receipt(rng: &mut fastrand::Rng, clock: &Clock, view: View) -> (Field<bool>, Field<String>) {
    let when = rng.u32(..100);
    let delay = rng.u32(4..9_000);
    let unread = (Field::mostly(rng, 30, false), Field::nothing(rng));
    let has_no_time = one_in(rng, 25);
    let is_read = match view {
        View::Whole { receipts } => when < 45 || (receipts && when < 93),
        View::At(_, now) => when < 93 && clock.time(delay) <= now,
        View::Forgotten => false,
    };
    if !is_read {
        unread
    } else if when < 45 && has_no_time {
        // An older message, for which the API does not return the time of reading.
        (Field::Value(true), unread.1)
    } else {
        (Field::Value(true), Field::Value(clock.later(delay)))
    }
}

impl Cast {
    fn draw(options: &Options, order_id: &str, length: u32, rng: &mut fastrand::Rng) -> Self {
        let shoppers = match rng.u32(..20) {
            0..3 => 2,
            3 => 3,
            // No shopper has taken the order yet.
            4..12 if length == 0 => 0,
            _ => 1,
        };
        let mut cast = Self {
            customer: ChatUser::customer(options.seed, orders::owner(options, order_id)),
            shoppers: Vec::with_capacity(shoppers),
        };
        for _ in 0..shoppers {
            let shopper = ChatUser::shopper(options.seed, rng);
            if !cast.shoppers.contains(&shopper) {
                cast.shoppers.push(shopper);
            }
        }
        cast
    }

    /// Returns the shopper at the time of message `number` of `length`.
    fn shopper_at(&self, number: u32, length: u32) -> ChatUser {
        self.shoppers[self.shoppers.len() * number as usize / length as usize]
    }

    /// Removes the shoppers who come after the first `written` messages of `length`.
    fn keep_those_of(&mut self, written: usize, length: u32) {
        let last = self.shoppers.len() * written.saturating_sub(1) / (length as usize).max(1);
        self.shoppers.truncate(last + 1);
    }

    fn metadata(&self, is_expired: Field<bool>, rng: &mut fastrand::Rng) -> Metadata {
        let current_shopper = match self.shoppers.last() {
            Some(shopper) => Field::mostly(rng, 30, shopper.profile()),
            None => Field::nothing(rng),
        };
        let mut shoppers: Vec<_> = self.shoppers.iter().map(|shopper| shopper.profile()).collect();
        // The documentation's example does not list them in the order in which they shopped.
        if rng.bool() {
            shoppers.reverse();
        }
        Metadata {
            is_expired,
            customer: Field::mostly(rng, 30, self.customer.profile()),
            current_shopper,
            shoppers: Field::mostly(rng, 30, shoppers),
        }
    }
}
