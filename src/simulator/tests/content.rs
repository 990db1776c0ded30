//! Tests properties of the generated conversations, over some thousand orders.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use chrono::DateTime;
use serde_json::Value;

use super::super::{Options, ReplyAge, orders, reply};

fn options() -> Options {
    Options { orders: 4_000, not_found_share: 0.1, expired_share: 0.1, ..Options::default() }
}

fn replies(options: &Options, receipts: bool) -> Vec<Value> {
    orders(options)
        .filter_map(|order| reply(options, &order.order_id, receipts))
        .map(|body| serde_json::from_slice(&body).unwrap())
        .collect()
}

/// Returns the replies to `options()` before receipts appear, made once for all tests.
fn unread() -> &'static [Value] {
    static REPLIES: LazyLock<Vec<Value>> = LazyLock::new(|| replies(&options(), false));
    &REPLIES
}

fn messages_of(reply: &Value) -> &[Value] {
    reply["chat_messages"].as_array().unwrap()
}

#[test]
fn the_same_seed_and_order_give_the_same_bytes_and_another_seed_others() {
    let one = Options { not_found_share: 0.0, expired_share: 0.0, ..options() };
    let other = Options { seed: 99, ..one.clone() };
    for order_id in ["b7fab7ae-11fc-4453-98e1-a00000000000", "", "注/文 %2F", "x"] {
        assert_eq!(reply(&one, order_id, true), reply(&one.clone(), order_id, true));
        assert_ne!(reply(&one, order_id, true), reply(&other, order_id, true));
    }
}

#[test]
fn the_mix_of_replies_is_realistic() {
    let replies = unread();
    assert!((3_500..3_700).contains(&replies.len()), "one in ten is not found");
    let lengths: Vec<_> = replies.iter().map(|r| messages_of(r).len()).collect();
    let readable = lengths.len() - 400; // without the expired ones
    let mean = lengths.iter().sum::<usize>() / readable;
    assert!((8..=12).contains(&mean), "{mean} messages on average");
    assert_eq!(lengths.iter().max(), Some(&40));
    assert!(lengths.iter().filter(|&&n| n == 0).count() > 400);
}

#[test]
fn new_replies_report_expiry_at_either_place_and_old_ones_never() {
    let mut seen = HashMap::new();
    for reply in unread() {
        let (top, inside) = (&reply["is_expired"], &reply["metadata"]["is_expired"]);
        assert!(top.is_null() != inside.is_null(), "reported exactly once");
        let expired = top.as_bool().or(inside.as_bool()).unwrap();
        assert!(!expired || messages_of(reply).is_empty());
        *seen.entry((top.is_null(), expired)).or_insert(0) += 1;
    }
    assert!(seen.len() == 4 && seen.values().all(|&n| n > 100), "{seen:?}");
    let options = Options { reply_age: ReplyAge::Old, orders: 500, ..options() };
    assert!(
        replies(&options, false)
            .iter()
            .all(|reply| { reply["is_expired"].is_null() && reply["metadata"]["is_expired"].is_null() })
    );
}

#[test]
fn messages_are_chronological_with_growing_64_bit_ids_and_one_order_number() {
    let mut large = 0;
    for reply in unread() {
        let messages = messages_of(reply);
        let ids: Vec<_> = messages.iter().map(|m| m["id"].as_i64().unwrap()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        large += usize::from(ids.last().is_some_and(|&id| id > 1 << 53));
        assert!(messages.iter().map(|m| &m["order_id"]).collect::<HashSet<_>>().len() <= 1);
        let time = |m: &Value| DateTime::parse_from_rfc3339(m["created_at"].as_str().unwrap());
        assert!(messages.iter().map(|m| time(m).unwrap()).is_sorted());
    }
    assert!(large > 100);
}

#[test]
fn read_receipts_only_ever_turn_on_and_nothing_else_changes() {
    let (mut at_once, mut turned, mut never) = (0, 0, 0);
    let (before, after) = (unread().to_vec(), replies(&options(), true));
    for (mut before, mut after) in before.into_iter().zip(after) {
        for (old, new) in messages_of(&before).iter().zip(messages_of(&after)) {
            match (old["read"] == true, new["read"] == true) {
                (true, false) => panic!("a receipt went back"),
                (true, true) => {
                    assert_eq!(old, new);
                    at_once += 1;
                }
                (false, true) => {
                    assert!(new["read_at"].is_string());
                    turned += 1;
                }
                (false, false) => never += 1,
            }
        }
        for reply in [&mut before, &mut after] {
            for message in reply["chat_messages"].as_array_mut().unwrap() {
                message.as_object_mut().unwrap().retain(|key, _| !key.starts_with("read"));
            }
        }
        assert_eq!(before, after);
    }
    assert!(never > 1_000 && at_once > 4 * never && turned > 4 * never);
}

#[test]
fn a_chat_user_is_the_same_everywhere_and_some_correspondents_are_not_named() {
    let mut seen: HashMap<(&str, u64), Value> = HashMap::new();
    let (mut shared, mut unnamed, mut several) = (0, 0, 0);
    for reply in unread() {
        let metadata = &reply["metadata"];
        let shoppers: &[Value] = metadata["shoppers"].as_array().map_or(&[], Vec::as_slice);
        several += usize::from(shoppers.len() > 1);
        let drivers = shoppers.iter().chain([&metadata["current_shopper"]]).map(|p| ("driver", p));
        let named: HashMap<_, _> = drivers
            .chain([("user", &metadata["customer"])])
            .filter(|(_, profile)| profile.is_object())
            .map(|(kind, profile)| ((kind, profile["id"].as_u64().unwrap()), profile))
            .collect();
        unnamed += usize::from(messages_of(reply).iter().any(|message| {
            ["sender", "recipient"].iter().any(|side| {
                let kind = message[format!("{side}_type")].as_str().unwrap();
                let id = message[format!("{side}_id")].as_u64().unwrap();
                !named.contains_key(&(kind, id))
            })
        }));
        for (key, profile) in named {
            if let Some(known) = seen.insert(key, profile.clone()) {
                assert_eq!(&known, profile);
                shared += 1;
            }
        }
    }
    assert!(shared > 1_000 && unnamed > 100 && several > 100, "{shared} {unnamed} {several}");
}

#[test]
fn optional_fields_are_present_null_or_absent() {
    let replies = unread();
    let all: Vec<_> = replies.iter().flat_map(messages_of).collect();
    for field in ["read", "read_at", "body", "image"] {
        assert!(all.iter().any(|m| m.get(field).is_none()), "{field} absent");
        assert!(all.iter().any(|m| m.get(field) == Some(&Value::Null)), "{field} null");
        assert!(all.iter().any(|m| !m[field].is_null()), "{field} present");
    }
    for field in ["customer", "current_shopper", "shoppers"] {
        let places: Vec<_> = replies.iter().filter_map(|r| r["metadata"].as_object()).collect();
        assert!(places.iter().any(|m| m.get(field).is_none()), "{field} absent");
        assert!(places.iter().any(|m| m.get(field) == Some(&Value::Null)), "{field} null");
    }
}
