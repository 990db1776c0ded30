//! What the tables must contain after a sequence of answers: the documented rules again, without SQL and without types
//! of chatsync.
//!
//! All answers come within minutes, so a read before the end always proves completeness.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::replies::{Element, Expiry, Message, ODD_IMAGE, People, Person, Step, Talk, odd_image};

type User = (&'static str, i64);

#[derive(Default)]
pub(super) struct Model {
    messages: BTreeMap<i64, Map<String, Value>>,
    users: BTreeMap<User, (Option<String>, Option<String>)>,
    /// By role: whether in charge.
    participants: BTreeMap<(User, &'static str), bool>,
    order: Option<Order>,
    instacart_order_id: Option<i64>,
    customer: Option<i64>,
    current_shopper: Option<i64>,
    messages_left_out: usize,
    state: Option<&'static str>,
    /// Whether a read understood every message, and had some or came before anything was stored.
    was_read: bool,
    /// Whether a read understood something.
    was_answered: bool,
    is_expired: bool,
}

/// The row of `chat.orders`.
#[derive(Clone, Copy)]
struct Order {
    status: &'static str,
    coverage: &'static str,
}

impl Model {
    pub(super) fn hear(&mut self, step: &Step) {
        let state = match step {
            Step::Talk(talk) | Step::TalkAtSecondTry(talk) => self.receive_talk(talk),
            Step::NotFound => {
                let coverage = match (self.was_read, self.is_expired, self.messages.is_empty()) {
                    _ if self.is_complete() => self.all(),
                    (false, _, true) if self.was_answered => "expired_unread",
                    (false, _, true) => self.loss_before().unwrap_or("not_found"),
                    (true, true, _) => self.all(),
                    _ => "expired_partial",
                };
                self.order = Some(Order { status: "closed", coverage });
                "closed"
            }
            Step::Refused => {
                let is_proven = self.is_complete() || (self.was_read && self.is_expired);
                let coverage = if is_proven { self.all() } else { "failed" };
                self.order = Some(Order { status: "open", coverage });
                "dead"
            }
            Step::FedAgain if matches!(self.state, Some("closed" | "expired")) => {
                (self.was_read, self.was_answered, self.is_expired) = (false, false, false);
                "pending"
            }
            Step::FedAgain => self.state.unwrap_or("pending"),
            Step::Page | Step::Forbidden | Step::NotJson if self.was_read || self.was_answered => "open",
            Step::Page | Step::Forbidden | Step::NotJson => "pending",
        };
        self.state = Some(state);
    }

    /// Whether the stored conversation was proven complete before.
    fn is_complete(&self) -> bool {
        self.order.is_some_and(|order| matches!(order.coverage, "captured" | "no_chat"))
    }

    /// A loss before the queue knew the order; a loss stays a loss.
    fn loss_before(&self) -> Option<&'static str> {
        let is_new_to_the_queue = !self.was_read && !self.was_answered;
        let coverage = self.order.map(|order| order.coverage).filter(|_| is_new_to_the_queue)?;
        ["expired_partial", "expired_unread"].contains(&coverage).then_some(coverage)
    }

    /// The coverage of a completely stored conversation.
    fn all(&self) -> &'static str {
        if self.messages.is_empty() { "no_chat" } else { "captured" }
    }

    fn receive_talk(&mut self, talk: &Talk) -> &'static str {
        let had_messages = !self.messages.is_empty();
        let (said, left_out) = understood(talk);
        let has_faults = left_out > 0;
        if !said.is_empty() || has_faults {
            self.messages_left_out = left_out;
        }
        if matches!(talk.expiry, Expiry::Yes | Expiry::YesInMetadata) {
            let coverage = match (self.was_read, had_messages, said.is_empty() && !has_faults) {
                (_, false, false) => "expired_partial",
                _ if self.is_complete() => self.all(),
                (false, false, true) => self.loss_before().unwrap_or("expired_unread"),
                (false, ..) => "expired_partial",
                (true, ..) => self.all(),
            };
            // After a full reply the empty one adds nothing.
            if !said.is_empty() || has_faults || !had_messages {
                self.store(talk, &said);
            }
            self.order = Some(Order { status: "expired", coverage });
            self.is_expired = true;
            return "expired";
        }
        let says_nothing = said.is_empty() && !has_faults && (had_messages || talk.expiry == Expiry::Unsaid);
        let coverage = if says_nothing && self.is_complete() { self.all() } else { "captured_open" };
        self.order = Some(Order { status: "open", coverage });
        // An expired conversation of the older API: no change and no good read.
        if said.is_empty() && had_messages && !has_faults {
            return "open";
        }
        if !has_faults {
            self.was_read = true;
            self.is_expired = false;
            if !said.is_empty() {
                let ids: BTreeSet<i64> = said.iter().map(|(_, message)| message.id).collect();
                for (_, row) in self.messages.iter_mut().filter(|(id, _)| !ids.contains(id)) {
                    row.insert("removed_at".to_owned(), true.into());
                }
            }
        }
        self.was_answered = true;
        self.store(talk, &said);
        "open"
    }

    fn store(&mut self, talk: &Talk, said: &[(usize, &Message)]) {
        for (position, message) in said {
            store_message(self.messages.entry(message.id).or_default(), *position, message);
        }
        let no_people = People { version: 0, customer: None, current_shopper: None, shoppers: None };
        let people = talk.people.as_ref().unwrap_or(&no_people);
        let mut named = BTreeSet::new();
        if let Some(customer) = &people.customer {
            self.meet("user", customer, people);
            named.insert(("user", customer.id));
            self.participants.insert((("user", customer.id), "customer"), false);
        }
        let shoppers = people.shoppers.iter().flatten().chain(&people.current_shopper);
        for shopper in shoppers {
            self.meet("driver", shopper, people);
            named.insert(("driver", shopper.id));
            self.participants.entry((("driver", shopper.id), "shopper")).or_default();
        }
        if let Some(current) = &people.current_shopper {
            for (((_, id), role), is_current) in &mut self.participants {
                *is_current = *role == "shopper" && *id == current.id;
            }
        }
        for user in said.iter().flat_map(|(_, message)| [message.sender, message.recipient]).flatten() {
            self.users.entry(user).or_default();
            if !named.contains(&user) {
                self.participants.entry((user, "correspondent")).or_default();
            }
        }
        let order_id = said.iter().find_map(|(_, message)| message.order_id);
        self.instacart_order_id = order_id.or(self.instacart_order_id);
        self.customer = people.customer.as_ref().map(|user| user.id).or(self.customer);
        self.current_shopper = people.current_shopper.as_ref().map(|user| user.id).or(self.current_shopper);
    }

    fn meet(&mut self, user_type: &'static str, person: &Person, people: &People) {
        let (name, picture) = self.users.entry((user_type, person.id)).or_default();
        *name = people.name(person).or(name.take());
        *picture = people.picture(person).or(picture.take());
    }

    pub(super) fn lines(&self) -> BTreeSet<String> {
        let mut lines: BTreeSet<String> =
            self.messages.values().map(|row| format!("messages {}", Value::Object(row.clone()))).collect();
        for ((user_type, id), (name, picture)) in &self.users {
            let row = json!({"user_type": user_type, "user_id": id, "display_name": name, "avatar_url": picture});
            lines.insert(format!("users {row}"));
        }
        for (((user_type, id), role), is_current) in &self.participants {
            let row = json!({
                "order_id": "order", "user_type": user_type, "user_id": id, "role": role, "is_current": is_current
            });
            lines.insert(format!("participants {row}"));
        }
        if let Some(order) = self.order {
            let times = || self.messages.values().filter_map(|row| row["created_at"].as_str());
            let row = json!({
                "order_id": "order", "status": order.status, "coverage": order.coverage,
                "closed_at": order.status == "closed", "instacart_order_id": self.instacart_order_id,
                "customer_id": self.customer, "current_shopper_id": self.current_shopper,
                "message_count": self.messages.len(), "first_message_at": times().min(), "last_message_at": times().max(),
                "messages_left_out": self.messages_left_out,
            });
            lines.insert(format!("orders {row}"));
        }
        let state = self.state.unwrap_or("pending");
        lines.insert(format!("queue {}", json!({"order_id": "order", "state": state})));
        lines
    }
}

/// The messages with usable ids and their positions, and how many were left out.
fn understood(talk: &Talk) -> (Vec<(usize, &Message)>, usize) {
    let mut said: Vec<(usize, &Message)> = Vec::new();
    let mut left_out = 0;
    for (position, element) in talk.elements.iter().enumerate() {
        match element {
            Element::Bad(_) => left_out += 1,
            Element::Good(message) => match said.iter().find(|(_, earlier)| earlier.id == message.id) {
                None => said.push((position, message)),
                Some((_, earlier)) => left_out += usize::from(!is_same(earlier, message)),
            },
        }
    }
    (said, left_out)
}

fn is_same(one: &Message, other: &Message) -> bool {
    let image = |message: &Message| message.image.filter(|image| !image.is_empty());
    Message { is_in_words: other.is_in_words, image: other.image, ..one.clone() } == *other
        && image(one) == image(other)
}

/// New values replace old ones. Missing and undecodable ones change nothing.
fn store_message(row: &mut Map<String, Value>, position: usize, message: &Message) {
    let body = message.body.map(|body| body.replace('\0', "\u{fffd}"));
    let time = |time: Option<&str>| time.map(|time| time.replace('Z', "+00:00"));
    let image = message.image.filter(|image| !image.is_empty());
    let image_url = image.filter(|image| *image != ODD_IMAGE);
    let said = json!({
        "instacart_order_id": message.order_id, "created_at": time(message.created_at),
        "sender_type": message.sender.map(|user| user.0), "sender_id": message.sender.map(|user| user.1),
        "recipient_type": message.recipient.map(|user| user.0), "recipient_id": message.recipient.map(|user| user.1),
        "read_at": time(message.read_at), "body_length": body.as_ref().map(|body| body.chars().count()), "body": body,
        "image_url": image_url, "is_read": message.read,
    });
    let Value::Object(said) = said else { unreachable!("an object") };
    let was_read = row.get("is_read") == Some(&Value::Bool(true));
    let was_altered = row.get("is_altered") == Some(&Value::Bool(true));
    for (name, value) in said {
        if !value.is_null() || !row.contains_key(&name) {
            row.insert(name, value);
        }
    }
    if was_read {
        row.insert("is_read".to_owned(), true.into());
    }
    let mut incoming = Map::new();
    incoming.extend(message.mood.map(|mood| ("mood".to_owned(), mood.into())));
    incoming.extend((image == Some(ODD_IMAGE)).then(|| ("image".to_owned(), odd_image())));
    let mut extra = row.get("extra").and_then(Value::as_object).cloned().unwrap_or_default();
    if image_url.is_some() {
        extra.remove("image");
    }
    extra.extend(incoming.clone());
    // True while the replacement remains; the altered value may be in the kept unknown fields.
    let is_altered =
        row["body"].as_str().is_some_and(|body| body.contains('\u{fffd}')) || (was_altered && extra != incoming);
    for (name, value) in [
        ("order_id", json!("order")),
        ("message_id", message.id.into()),
        ("position", position.into()),
        ("removed_at", false.into()),
        ("is_altered", is_altered.into()),
        ("unreadable", if extra.contains_key("image") { json!(["image"]) } else { Value::Null }),
        ("extra", if extra.is_empty() { Value::Null } else { extra.into() }),
    ] {
        row.insert(name.to_owned(), value);
    }
}
