//! The replies: a thousand conversations generated in advance, with gaps for the ids and names of an order.
//!
//! Filling one copies some kilobytes and some sixty numbers, for any number of orders.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};

use super::phrases::{CUSTOMER, GOODS, NAMES, SHOPPER};
use crate::orders::{Change, MESSAGES_PER_ORDER, UNREAD_PER_ORDER};

/// A prime, so that conversations and shoppers do not repeat in step.
const CONVERSATIONS: u32 = 997;

/// Orders that share a shopper.
const ORDERS_PER_SHOPPER: u32 = 20;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:      0\r\n\r\n";
/// Position of the last digit of the length.
const LENGTH_END: usize = HEAD.len() - 4;

pub(super) struct Replies {
    as_first: Vec<Template>,
    grown: Vec<Template>,
    read: Vec<Template>,
}

struct Template {
    text: String,
    /// In order of position.
    gaps: Vec<(usize, Gap)>,
}

/// What is inserted between two pieces of text.
#[derive(Clone, Copy)]
enum Gap {
    InstacartOrder,
    Message(u32),
    Customer,
    CustomerName,
    Shopper,
    ShopperName,
    OtherShopper,
    OtherShopperName,
}

impl Replies {
    /// Generates the conversations: the same for the same `now`.
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        let all = |change| (0..CONVERSATIONS).map(|seed| Template::new(seed, change, now)).collect();
        Self { as_first: all(Change::None), grown: all(Change::Grown), read: all(Change::Read) }
    }

    /// Writes the whole response for an order into `out`, which is cleared.
    pub(super) fn write(&self, index: u32, is_changed: bool, out: &mut Vec<u8>) {
        let templates = match Change::of(index) {
            Change::Grown if is_changed => &self.grown,
            Change::Read if is_changed => &self.read,
            _ => &self.as_first,
        };
        out.clear();
        out.extend_from_slice(HEAD);
        templates[(index % CONVERSATIONS) as usize].fill(index, out);
        let mut length = out.len() - HEAD.len();
        let mut place = LENGTH_END;
        while length > 0 {
            place -= 1;
            out[place] = b'0' + u8::try_from(length % 10).expect("a digit");
            length /= 10;
        }
    }
}

impl Template {
    fn new(seed: u32, change: Change, now: DateTime<Utc>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.into());
        let mut this = Self { text: r#"{"chat_messages":["#.to_owned(), gaps: Vec::new() };
        let mut written_at = now - TimeDelta::hours(3) + TimeDelta::seconds(rng.i64(0..3_600));
        let count = MESSAGES_PER_ORDER + u32::from(change == Change::Grown);
        for number in 0..count {
            let is_read = number < MESSAGES_PER_ORDER - UNREAD_PER_ORDER || change == Change::Read;
            this.add_message(number, is_read, written_at, &mut rng);
            written_at += TimeDelta::seconds(rng.i64(20..240));
        }
        this.text.push_str(r#"],"metadata":{"customer":"#);
        this.add_user(Gap::Customer, Gap::CustomerName);
        this.text.push_str(r#","current_shopper":"#);
        this.add_user(Gap::Shopper, Gap::ShopperName);
        this.text.push_str(r#","shoppers":["#);
        if seed.is_multiple_of(2) {
            this.add_user(Gap::OtherShopper, Gap::OtherShopperName);
            this.text.push(',');
        }
        this.add_user(Gap::Shopper, Gap::ShopperName);
        this.text.push_str(r#"]},"is_expired":false}"#);
        this
    }

    fn add_message(&mut self, number: u32, is_read: bool, at: DateTime<Utc>, rng: &mut fastrand::Rng) {
        // The shopper writes the first message.
        let by_shopper = number == 0 || rng.bool();
        let (phrases, sender, recipient) = if by_shopper {
            (&SHOPPER, (Gap::Shopper, "driver"), (Gap::Customer, "user"))
        } else {
            (&CUSTOMER, (Gap::Customer, "user"), (Gap::Shopper, "driver"))
        };
        let body = phrases[rng.usize(..phrases.len())].replace('@', GOODS[rng.usize(..GOODS.len())]);
        let time = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        if number > 0 {
            self.text.push(',');
        }
        self.text.push_str(r#"{"id":"#);
        self.add_gap(Gap::Message(number));
        self.text.push_str(r#","order_id":"#);
        self.add_gap(Gap::InstacartOrder);
        let _ = write!(self.text, r#","created_at":"{}","recipient_id":"#, time(at));
        self.add_gap(recipient.0);
        let _ = write!(self.text, r#","recipient_type":"{}","sender_id":"#, recipient.1);
        self.add_gap(sender.0);
        let _ = write!(self.text, r#","sender_type":"{}","read":{is_read},"#, sender.1);
        let reading_time = TimeDelta::seconds(rng.i64(5..60));
        if is_read {
            let _ = write!(self.text, r#""read_at":"{}","#, time(at + reading_time));
        }
        let _ = write!(self.text, r#""body":"{body}"}}"#);
    }

    fn add_user(&mut self, id: Gap, name: Gap) {
        self.text.push_str(r#"{"id":"#);
        self.add_gap(id);
        self.text.push_str(r#","display_name":""#);
        self.add_gap(name);
        self.text.push_str(r#"","avatar_url":"https://images.example.com/avatars/"#);
        self.add_gap(id);
        self.text.push_str(r#".jpg"}"#);
    }

    fn add_gap(&mut self, gap: Gap) {
        self.gaps.push((self.text.len(), gap));
    }

    fn fill(&self, index: u32, out: &mut Vec<u8>) {
        let shopper = index / ORDERS_PER_SHOPPER;
        let other_shopper = shopper ^ 1;
        let (order_id, customer_id) = (digits(3, index), digits(4, index));
        let (shopper_id, other_shopper_id) = (digits(5, shopper), digits(5, other_shopper));
        let text = self.text.as_bytes();
        let mut done = 0;
        for &(place, gap) in &self.gaps {
            out.extend_from_slice(&text[done..place]);
            done = place;
            match gap {
                Gap::InstacartOrder => out.extend_from_slice(&order_id),
                // Sixteen ids per conversation: unique, and rising from order to order.
                Gap::Message(number) => out.extend_from_slice(&digits(2, index * 16 + number)),
                Gap::Customer => out.extend_from_slice(&customer_id),
                Gap::CustomerName => add_name(index, out),
                Gap::Shopper => out.extend_from_slice(&shopper_id),
                Gap::ShopperName => add_name(shopper, out),
                Gap::OtherShopper => out.extend_from_slice(&other_shopper_id),
                Gap::OtherShopperName => add_name(other_shopper, out),
            }
        }
        out.extend_from_slice(&text[done..]);
    }
}

/// Makes an id of ten digits; the first says what it identifies.
fn digits(kind: u8, mut number: u32) -> [u8; 10] {
    let mut digits = [b'0'; 10];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
    digits[0] = b'0' + kind;
    digits
}

/// Appends a first name and an initial.
fn add_name(person: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(NAMES[person as usize % NAMES.len()].as_bytes());
    let initial = b'A' + u8::try_from(person / 24 % 26).expect("a letter of 26");
    out.extend_from_slice(&[b' ', initial, b'.']);
}
