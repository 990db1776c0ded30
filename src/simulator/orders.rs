//! The orders of the simulated retailer: their ids, owners and fates.
//!
//! `orders` lists what a user feeds to `chatsync enqueue`. The routes look up the owner and the fate of *any* order
//! id, listed or not. Invariant: all of it is a pure function of the options and the order id.

use chrono::{DateTime, Utc};
use uuid::Builder;

use super::life::Life;
use super::options::Options;
use super::random::{hash, mix};

const FATE: u64 = 1;
const OWNER: u64 = 2;
const LISTED: u64 = 3;

/// A listed order, ready to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedOrder {
    /// Unique in the list. Usually a UUID; one in fifty is another valid id that is easy to get wrong in a URL.
    pub order_id: String,
    /// The Connect user whose token sees the order.
    pub connect_user_id: String,
    /// The times of the order, with `Options::lifecycle`.
    pub life: Option<Life>,
}

impl ListedOrder {
    /// Returns whether the order exists at `now`; without a lifecycle it always does.
    #[must_use]
    pub fn is_placed(&self, now: DateTime<Utc>) -> bool {
        self.life.is_none_or(|life| life.placed_at <= now)
    }

    /// Returns when it was completed, if that is before `now`.
    #[must_use]
    pub fn completed_by(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.life.map(|life| life.completed_at).filter(|completed_at| *completed_at <= now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    NotFound,
    Expired,
    Readable,
}

/// Lists the `options.orders` orders of this simulator, generated lazily.
pub fn orders(options: &Options) -> impl Iterator<Item = ListedOrder> {
    (0..options.orders).map(|number| {
        let order_id = order_id(options.seed, number);
        let connect_user_id = connect_user_id(options, &order_id);
        let life = options.lifecycle.map(|lifecycle| Life::of(lifecycle, options.seed, &order_id));
        ListedOrder { order_id, connect_user_id, life }
    })
}

/// Returns the Connect user who owns `order_id`: one of `options.users`, or the order's own user if that is 0.
#[must_use]
pub fn connect_user_id(options: &Options, order_id: &str) -> String {
    let owner = owner(options, order_id);
    if options.users == 0 { format!("user-{owner:016x}") } else { format!("user-{owner}") }
}

/// Returns the number in `connect_user_id`.
pub(super) fn owner(options: &Options, order_id: &str) -> u64 {
    let owner = mix(hash(options.seed, order_id), OWNER);
    owner.checked_rem(options.users).unwrap_or(owner)
}

/// Returns the fate of `order_id`, by the shares in `options`.
pub(super) fn fate(options: &Options, order_id: &str) -> Fate {
    let chance = fastrand::Rng::with_seed(mix(hash(options.seed, order_id), FATE)).f64();
    if chance < options.not_found_share {
        Fate::NotFound
    } else if chance < options.not_found_share + options.expired_share {
        Fate::Expired
    } else {
        Fate::Readable
    }
}

fn order_id(seed: u64, number: u64) -> String {
    let high = mix(mix(seed, LISTED), number);
    let low = mix(high, number);
    let short = high >> 40;
    // Every unusual id contains its number, so that all are unique.
    match low % 300 {
        0 => format!("store/{}/{short:06x}-{number}", high % 90 + 10),
        1 => format!("Order {short:06x} {number}"),
        2 => format!("web+{short:06x}+{number}"),
        // A percent sign that looks like an escape: wrong if it is decoded twice.
        3 => format!("promo%2F{short:06x}-{number}"),
        4 => format!("pedido-ñandú-{short:06x}-{number}"),
        5 => format!("注文-{short:06x}-{number}"),
        _ => {
            let bits = (u128::from(high) << 64) | u128::from(low);
            Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn listed_orders_are_unique_repeatable_and_include_every_unusual_kind() {
        let options = Options { orders: 20_000, ..Options::default() };
        let first: Vec<_> = orders(&options).collect();
        assert_eq!(first, orders(&options).collect::<Vec<_>>());
        let ids: HashSet<_> = first.iter().map(|order| &order.order_id).collect();
        assert_eq!(ids.len(), 20_000);
        for odd in ["/", " ", "+", "%", "ñ", "注"] {
            let count = ids.iter().filter(|id| id.contains(odd)).count();
            assert!((30..120).contains(&count), "{count} ids with {odd:?}");
        }
        let plain = ids.iter().filter(|id| uuid::Uuid::try_parse(id).is_ok()).count();
        assert!((19_400..19_800).contains(&plain), "{plain} UUIDs");
    }

    #[test]
    fn another_seed_lists_other_orders() {
        let other = Options { seed: 2, ..Options::default() };
        let ids = |options| distinct(orders(options).map(|order| order.order_id));
        assert!(ids(&Options::default()).is_disjoint(&ids(&other)));
    }

    #[test]
    fn users_share_the_orders_or_have_one_each() {
        let shared = Options { orders: 2_000, users: 7, ..Options::default() };
        let users = |options| distinct(orders(options).map(|order| order.connect_user_id)).len();
        assert_eq!(users(&shared), 7);
        let own = Options { users: 0, ..shared.clone() };
        assert_eq!(users(&own), 2_000);
    }

    #[test]
    fn fates_follow_their_shares() {
        let options = Options { orders: 20_000, not_found_share: 0.1, expired_share: 0.2, ..Options::default() };
        let count =
            |fate_wanted| orders(&options).filter(|order| fate(&options, &order.order_id) == fate_wanted).count();
        assert!((1_800..2_200).contains(&count(Fate::NotFound)));
        assert!((3_700..4_300).contains(&count(Fate::Expired)));
    }

    fn distinct(names: impl Iterator<Item = String>) -> HashSet<String> {
        names.collect()
    }
}
