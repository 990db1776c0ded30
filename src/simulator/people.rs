//! The simulated chat users: the ids of an order's customer and shoppers, and their names.
//!
//! Called while a conversation is generated. Invariant: name and avatar are a pure function of (type, id), so a chat
//! user is the same in every order. `user` and `driver` are separate number spaces, and some numbers occur in both on
//! purpose.

use serde::Serialize;

use super::field::Field;
use super::random::{hash, id, mix, one_in, pick};

const CUSTOMER: u64 = 11;
const SHOPPER: u64 = 12;
const STRANGER: u64 = 13;

/// Number of shoppers; the first ones take many orders, the last ones few.
const SHOPPERS: u64 = 3_000;

/// The number space of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PersonKind {
    User,
    Driver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChatUser {
    pub(super) kind: PersonKind,
    pub(super) id: u64,
}

/// A chat user as `metadata` shows it.
#[derive(Clone, Serialize)]
pub(super) struct Profile {
    id: u64,
    display_name: String,
    #[serde(skip_serializing_if = "Field::is_absent")]
    avatar_url: Field<String>,
}

impl ChatUser {
    /// Returns the customer of Connect user number `owner`.
    pub(super) fn customer(seed: u64, owner: u64) -> Self {
        let own = mix(mix(seed, CUSTOMER), owner);
        let id = if own % 64 < 2 { shopper_id(seed, (own >> 8) % SHOPPERS) } else { id(own) };
        Self { kind: PersonKind::User, id }
    }

    /// Draws a shopper, with a bias to the busy ones.
    pub(super) fn shopper(seed: u64, rng: &mut fastrand::Rng) -> Self {
        let busy = rng.u64(..SHOPPERS);
        Self { kind: PersonKind::Driver, id: shopper_id(seed, rng.u64(..=busy)) }
    }

    /// Draws a chat user whom `metadata` does not name: a member of the household, or a colleague who helped out.
    pub(super) fn stranger(seed: u64, rng: &mut fastrand::Rng) -> Self {
        Self {
            kind: if rng.bool() { PersonKind::User } else { PersonKind::Driver },
            id: id(mix(mix(seed, STRANGER), rng.u64(..))),
        }
    }

    /// Returns what `metadata` says about this chat user.
    pub(super) fn profile(self) -> Profile {
        let (space, path) = match self.kind {
            PersonKind::User => (0, "user"),
            PersonKind::Driver => (1, "driver"),
        };
        let mut rng = fastrand::Rng::with_seed(mix(hash(space, path), self.id));
        let first = pick(&mut rng, FIRST_NAMES);
        let display_name = match self.kind {
            PersonKind::Driver => first.to_owned(),
            PersonKind::User if one_in(&mut rng, 3) => {
                format!("{first} {}.", char::from(rng.u8(b'A'..=b'Z')))
            }
            PersonKind::User => format!("{first} {}", pick(&mut rng, LAST_NAMES)),
        };
        let avatar_url = match rng.u8(..10) {
            0 => Field::Absent,
            1 => Field::Null,
            2..5 => Field::Value(String::new()),
            _ => Field::Value(format!("https://avatars.example/{path}/{}.jpg", self.id)),
        };
        Profile { id: self.id, display_name, avatar_url }
    }
}

fn shopper_id(seed: u64, index: u64) -> u64 {
    id(mix(mix(seed, SHOPPER), index))
}

const FIRST_NAMES: &[&str] = &[
    "Maria",
    "James",
    "Aisha",
    "Wei",
    "Priya",
    "Carlos",
    "Emily",
    "Mohammed",
    "Sofía",
    "Liam",
    "Chloé",
    "Tremaine",
    "Keiko",
    "Olena",
    "Noah",
    "Fatima",
    "Zoë",
    "DeShawn",
    "Ana-Lucía",
    "Bjørn",
    "Thảo",
    "O'Shea",
    "小明",
    "美玲",
    "فاطمة",
    "يوسف",
    "अनीता",
    "राहुल",
    "Дмитро",
    "지우",
    "Grace",
    "Mateo",
    "Hannah",
    "Robert",
];

const LAST_NAMES: &[&str] = &[
    "García",
    "Smith",
    "Nguyễn",
    "O'Brien",
    "Kim",
    "Johnson",
    "Patel",
    "Müller",
    "Al-Sayed",
    "Okafor",
    "Chen",
    "Tremblay",
    "Silva",
    "Kowalski",
    "Hernández-Ruiz",
    "Yamamoto",
    "Lee",
    "Brown",
    "Haddad",
    "St. John",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_chat_user_always_looks_the_same_and_its_type_matters() {
        let json = |kind| serde_json::to_string(&ChatUser { kind, id: 42 }.profile()).unwrap();
        assert_eq!(json(PersonKind::User), json(PersonKind::User));
        assert_ne!(json(PersonKind::User), json(PersonKind::Driver));
    }

    #[test]
    fn orders_share_shoppers_and_some_numbers_are_in_both_spaces() {
        let mut rng = fastrand::Rng::with_seed(5);
        let shoppers: HashSet<_> = (0..2_000).map(|_| ChatUser::shopper(1, &mut rng).id).collect();
        assert!((300..1_600).contains(&shoppers.len()), "{}", shoppers.len());
        let pool: HashSet<_> = (0..SHOPPERS).map(|index| shopper_id(1, index)).collect();
        let shared = (0..2_000).filter(|&owner| pool.contains(&ChatUser::customer(1, owner).id)).count();
        assert!((20..150).contains(&shared), "{shared}");
    }

    #[test]
    fn some_ids_are_above_two_to_the_53_and_all_fit_a_signed_64_bit_integer() {
        let ids: Vec<_> = (0..1_000).map(|owner| ChatUser::customer(1, owner).id).collect();
        assert!(ids.iter().all(|&id| i64::try_from(id).is_ok_and(|id| id > 0)));
        assert!(ids.iter().filter(|&&id| id > 1 << 53).count() > 50);
    }
}
