//! Repeatable random numbers: everything is drawn from a hash of the seed and a name, never from a shared generator.
//!
//! Called by the modules that generate content. Invariant: the same inputs give the same numbers in any order of
//! calls, so no state is kept per order.

/// Hashes `text` with `seed` (FNV-1a, then mixed; not for secrets).
pub(super) fn hash(seed: u64, text: &str) -> u64 {
    let start = mix(seed, 0xcbf2_9ce4_8422_2325);
    text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Derives another hash from `hash` for the purpose or index `salt`: the last steps of `SplitMix64`.
pub(super) fn mix(hash: u64, salt: u64) -> u64 {
    let mut z = hash.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws one entry of `list`, which must not be empty.
pub(super) fn pick<T: Copy>(rng: &mut fastrand::Rng, list: &[T]) -> T {
    list[rng.usize(..list.len())]
}

/// Returns true once in `n` draws.
pub(super) fn one_in(rng: &mut fastrand::Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

/// Makes an id like the API's: positive, 64 bits, one in eight above 2^53, which a JSON reader based on doubles
/// rounds. Small steps upwards never overflow an `i64`.
pub(super) fn id(hash: u64) -> u64 {
    if hash.is_multiple_of(8) { (hash >> 2) | (1 << 53) } else { (hash >> 24) + 1 }
}
