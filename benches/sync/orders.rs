//! The orders of the benchmark. Everything about an order follows from its index, so that a million orders need no
//! list.

/// Messages of every conversation before the change.
pub(crate) const MESSAGES_PER_ORDER: u32 = 12;

/// From this index on, ids rise with the index.
pub(crate) const RISING: u32 = 100_000_000;

/// Milliseconds since 1970 of the first id that rises: some time in 2025.
const EPOCH: u64 = 0x0194_2000_0000;

/// Messages of a conversation that the change marks as read.
pub(crate) const UNREAD_PER_ORDER: u32 = 2;

/// How the change affects a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not at all, as for four orders in five.
    None,
    /// It grows by one message.
    Grown,
    /// Its last messages were read.
    Read,
}

/// The effect of the change on a range of orders.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changes {
    pub(crate) grown: u32,
    pub(crate) read: u32,
}

impl Change {
    pub(crate) const fn of(index: u32) -> Self {
        match index % 10 {
            3 => Self::Grown,
            7 => Self::Read,
            _ => Self::None,
        }
    }
}

impl Changes {
    pub(crate) fn of(indices: std::ops::Range<u32>) -> Self {
        indices.fold(Self::default(), |sum, index| match Change::of(index) {
            Change::None => sum,
            Change::Grown => Self { grown: sum.grown + 1, ..sum },
            Change::Read => Self { read: sum.read + 1, ..sum },
        })
    }
}

/// Returns the retailer's id of the order: a random-looking UUID of version 4, so that rows arrive in no order; or one
/// of version 7, which begins with a time.
pub(crate) fn order_id(index: u32) -> String {
    let first = scramble(index);
    let rest = u64::from(first).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (a, b, c) = (rest >> 48, (rest >> 36) & 0xfff, (rest >> 22) & 0x3fff | 0x8000);
    let d = rest.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16;
    if index < RISING {
        format!("{first:08x}-{a:04x}-4{b:03x}-{c:04x}-{d:012x}")
    } else {
        let time = EPOCH + u64::from(index - RISING);
        format!("{:08x}-{:04x}-7{b:03x}-{c:04x}-{d:012x}", time >> 16, time & 0xffff)
    }
}

/// Returns the index of an order by its id.
pub(crate) fn index_of(order_id: &[u8]) -> Option<u32> {
    let number = |digits| u64::from_str_radix(std::str::from_utf8(order_id.get(digits)?).ok()?, 16).ok();
    let first = number(0..8)?;
    if order_id.get(14) == Some(&b'7') {
        let time = first << 16 | number(9..13)?;
        u32::try_from(time.checked_sub(EPOCH)?).ok()?.checked_add(RISING)
    } else {
        Some(unscramble(u32::try_from(first).ok()?))
    }
}

/// Mixes the bits so that neighbours are far apart. A bijection.
const fn scramble(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Inverts [`scramble`].
const fn unscramble(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x4302_1123);
    x ^= (x >> 15) ^ (x >> 30);
    x = x.wrapping_mul(0x1d69_e2a5);
    x ^ (x >> 16)
}

const _: () = {
    let mut index: u32 = 1;
    while index < 1_000_000_000 {
        assert!(unscramble(scramble(index)) == index, "an order's id leads back to it");
        index = index * 3 + 1;
    }
};
