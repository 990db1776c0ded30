//! Replies of the API, over a universe so small that everything collides: three message ids, three people of each type,
//! fields that come, change and go.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::support::http::Answer;

/// One answer for one order.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Talk(Talk),
    /// A 500 first.
    TalkAtSecondTry(Talk),
    /// A 404 of the API.
    NotFound,
    /// A 404 of another server.
    Page,
    Forbidden,
    NotJson,
    /// 422: refused for good.
    Refused,
    /// No answer: the row of an ended order is deleted, and the order is enqueued again.
    FedAgain,
}

#[derive(Debug, Clone)]
pub(super) struct Talk {
    pub(super) elements: Vec<Element>,
    pub(super) people: Option<People>,
    pub(super) expiry: Expiry,
}

#[derive(Debug, Clone)]
pub(super) enum Element {
    Good(Message),
    /// No message: without an id, or no object.
    Bad(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) id: i64,
    pub(super) order_id: Option<i64>,
    pub(super) created_at: Option<&'static str>,
    pub(super) sender: Option<(&'static str, i64)>,
    pub(super) recipient: Option<(&'static str, i64)>,
    pub(super) read: Option<bool>,
    pub(super) read_at: Option<&'static str>,
    pub(super) body: Option<&'static str>,
    pub(super) image: Option<&'static str>,
    pub(super) mood: Option<i64>,
    /// Whether numbers and booleans are sent as strings, which is equivalent.
    pub(super) is_in_words: bool,
}

/// An undecodable image.
pub(super) const ODD_IMAGE: &str = r#"{"url":"1.jpg"}"#;

#[derive(Debug, Clone)]
pub(super) struct People {
    /// Version of names and pictures: one reply is consistent about a person.
    pub(super) version: u8,
    pub(super) customer: Option<Person>,
    pub(super) current_shopper: Option<Person>,
    pub(super) shoppers: Option<Vec<Person>>,
}

#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) id: i64,
    pub(super) is_named: bool,
    pub(super) is_shown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// The older API.
    Unsaid,
    No,
    Yes,
    YesInMetadata,
}

pub(super) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    // Shorter than queue.max_failures, so that no order dies.
    vec(step(talk().boxed()), 1..7)
}

/// A sequence, and the same answers shuffled with repetitions. An answer without messages names no people here, because
/// they count only while nothing is stored.
pub(super) fn shuffled_with_repetitions() -> impl Strategy<Value = (Vec<Step>, Vec<Step>)> {
    let talk = talk().prop_map(|talk| {
        let has_messages = talk.elements.iter().any(|element| matches!(element, Element::Good(_)));
        Talk { people: talk.people.filter(|_| has_messages), ..talk }
    });
    (vec(step(talk.boxed()), 1..6), vec(any::<Index>(), 0..3)).prop_flat_map(|(steps, repeated)| {
        let repeated: Vec<Step> = repeated.iter().map(|index| index.get(&steps).clone()).collect();
        let all = [steps.clone(), repeated].concat();
        (Just(steps), Just(all).prop_shuffle())
    })
}

fn step(talk: BoxedStrategy<Talk>) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => talk.clone().prop_map(Step::Talk),
        1 => talk.prop_map(Step::TalkAtSecondTry),
        2 => Just(Step::NotFound),
        1 => select(vec![Step::Page, Step::Forbidden, Step::NotJson]),
        1 => Just(Step::Refused),
        2 => Just(Step::FedAgain),
    ]
}

fn talk() -> impl Strategy<Value = Talk> {
    let expiry = prop_oneof![
        3 => Just(Expiry::Unsaid),
        3 => Just(Expiry::No),
        1 => Just(Expiry::Yes),
        1 => Just(Expiry::YesInMetadata),
    ];
    (vec(element(), 0..5), option::weighted(0.7, people()), expiry).prop_map(|(elements, people, expiry)| Talk {
        elements,
        people,
        expiry,
    })
}

fn element() -> impl Strategy<Value = Element> {
    let bad = select(vec![json!({"body": "no id"}), json!({"body": "other"}), json!({"id": "one"}), json!(5)]);
    prop_oneof![
        9 => message().prop_map(Element::Good),
        1 => bad.prop_map(Element::Bad),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let user = || option::of((select(vec!["user", "driver"]), 1..4_i64));
    let time = || option::of(select(vec!["2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z"]));
    (
        1..4_i64,
        option::of(77..79_i64),
        time(),
        user(),
        user(),
        any::<Option<bool>>(),
        time(),
        option::of(select(vec!["hello", "hello again", "cut \0 off"])),
        option::of(select(vec!["", "https://images.example/1.jpg", ODD_IMAGE])),
        (option::of(0..2_i64), any::<bool>()),
    )
        .prop_map(
            |(id, order_id, created_at, sender, recipient, read, read_at, body, image, (mood, is_in_words))| Message {
                id,
                order_id,
                created_at,
                sender,
                recipient,
                read,
                read_at,
                body,
                image,
                mood,
                is_in_words,
            },
        )
}

fn people() -> impl Strategy<Value = People> {
    let person = || {
        (1..4_i64, any::<bool>(), any::<bool>()).prop_map(|(id, is_named, is_shown)| Person { id, is_named, is_shown })
    };
    (0..3_u8, option::of(person()), option::of(person()), option::of(vec(person(), 0..3))).prop_map(
        |(version, customer, current_shopper, shoppers)| People { version, customer, current_shopper, shoppers },
    )
}

impl Step {
    /// The answers to its requests. User ids start after `offset`.
    pub(super) fn answers(&self, offset: i64) -> Vec<Answer> {
        match self {
            Self::Talk(talk) => vec![Answer::json(200, &talk.json(offset))],
            Self::TalkAtSecondTry(talk) => vec![Answer::new(500, ""), Answer::json(200, &talk.json(offset))],
            Self::NotFound => vec![Answer::not_found()],
            Self::Page => vec![Answer::new(404, "<html>not here</html>")],
            Self::Forbidden => vec![Answer::new(403, "")],
            Self::NotJson => vec![Answer::new(200, "<html>maintenance</html>")],
            Self::Refused => vec![Answer::json(422, &json!({"error": {"code": 1001}}))],
            Self::FedAgain => Vec::new(),
        }
    }
}

impl Talk {
    fn json(&self, offset: i64) -> Value {
        let elements: Vec<Value> = self.elements.iter().map(|element| element.json(offset)).collect();
        let mut reply = json!({"chat_messages": elements});
        if let Some(people) = &self.people {
            reply["metadata"] = people.json(offset);
        }
        match self.expiry {
            Expiry::Unsaid => {}
            Expiry::No => reply["is_expired"] = false.into(),
            Expiry::Yes => reply["is_expired"] = true.into(),
            Expiry::YesInMetadata => reply["metadata"]["is_expired"] = true.into(),
        }
        reply
    }
}

impl Element {
    fn json(&self, offset: i64) -> Value {
        let message = match self {
            Self::Bad(value) => return value.clone(),
            Self::Good(message) => message,
        };
        let Message { id, order_id, created_at, read, read_at, body, image, mood, .. } = message;
        let image = image.map(|image| if image == ODD_IMAGE { odd_image() } else { image.into() });
        let fields = json!({
            "id": id, "order_id": order_id, "created_at": created_at, "read": read, "read_at": read_at, "body": body,
            "image": image, "mood": mood,
            "sender_type": message.sender.map(|user| user.0), "sender_id": message.sender.map(|user| user.1 + offset),
            "recipient_type": message.recipient.map(|user| user.0),
            "recipient_id": message.recipient.map(|user| user.1 + offset),
        });
        let Value::Object(mut fields) = fields else { unreachable!("an object") };
        // Null and absent are equivalent, except for unknown fields.
        fields.retain(|name, value| name != "mood" || !value.is_null());
        if message.is_in_words {
            let known =
                fields.iter_mut().filter(|(name, value)| *name != "mood" && (value.is_i64() || value.is_boolean()));
            known.for_each(|(_, value)| *value = value.to_string().into());
        }
        Value::Object(fields)
    }
}

pub(super) fn odd_image() -> Value {
    serde_json::from_str(ODD_IMAGE).expect("JSON")
}

impl People {
    fn json(&self, offset: i64) -> Value {
        let person = |person: &Person| json!({"id": person.id + offset, "display_name": self.name(person), "avatar_url": self.picture(person)});
        json!({
            "customer": self.customer.as_ref().map(person),
            "current_shopper": self.current_shopper.as_ref().map(person),
            "shoppers": self.shoppers.as_ref().map(|shoppers| shoppers.iter().map(person).collect::<Vec<_>>()),
        })
    }

    pub(super) fn name(&self, person: &Person) -> Option<String> {
        person.is_named.then(|| format!("name {}", self.version))
    }

    pub(super) fn picture(&self, person: &Person) -> Option<String> {
        person.is_shown.then(|| format!("{}.jpg", self.version))
    }
}
