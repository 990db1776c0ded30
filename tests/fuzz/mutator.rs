//! Makes bad inputs from good ones.
//!
//! Blind changes alone would seldom get past the parser, so half of them know some JSON: they swap, repeat, nest and
//! drop whole values. The same seed makes the same input.

use std::ops::Range;

use fastrand::Rng;

/// Long enough for every rule, short enough for many executions.
const MAX_BYTES: usize = 100_000;

/// A corpus of good inputs, and pieces to insert.
pub(crate) struct Mutator {
    corpus: Vec<Vec<u8>>,
    pieces: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn new(corpus: Vec<Vec<u8>>, pieces: Vec<Vec<u8>>) -> Self {
        Self { corpus, pieces }
    }

    /// Returns the input for this seed.
    pub(crate) fn input(&self, seed: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(seed);
        let mut input = pick(&mut rng, &self.corpus).clone();
        for _ in 0..rng.u32(..8) {
            self.mutate(&mut input, &mut rng);
            input.truncate(MAX_BYTES);
        }
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let range = if rng.bool() { value(input, rng) } else { any_range(input, rng) };
        let place = rng.usize(..=input.len());
        match rng.u32(..14) {
            0 if place < input.len() => input[place] ^= 1 << rng.u32(..8),
            1 if place < input.len() => input[place] = rng.u8(..),
            2 => drop(input.drain(range)),
            3 => {
                let copy = input[range].repeat(rng.usize(1..4));
                drop(input.splice(place..place, copy));
            }
            4 => drop(input.splice(place..place, pick(rng, &self.pieces).iter().copied())),
            5..=8 => drop(input.splice(range, pick(rng, &self.pieces).iter().copied())),
            9 => {
                let other = pick(rng, &self.corpus);
                let piece = if rng.bool() { value(other, rng) } else { any_range(other, rng) };
                drop(input.splice(range, other[piece].iter().copied()));
            }
            10 => {
                let times = if rng.u32(..8) == 0 { rng.usize(..20_000) } else { rng.usize(..40) };
                let (open, close): (&[u8], &[u8]) = if rng.bool() { (b"[", b"]") } else { (b"{\"a\":", b"}") };
                let nested = [&open.repeat(times), &input[range.clone()], &close.repeat(times)].concat();
                drop(input.splice(range, nested));
            }
            11 => {
                let times = if rng.u32(..8) == 0 { rng.usize(..70_000) } else { rng.usize(..400) };
                let unit = pick(rng, &self.pieces);
                drop(input.splice(place..place, unit.iter().copied().cycle().take(times)));
            }
            12 => {
                // Swap two values.
                let other = value(input, rng);
                if range.end <= other.start {
                    let swapped =
                        [&input[other.clone()], &input[range.end..other.start], &input[range.clone()]].concat();
                    drop(input.splice(range.start..other.end, swapped));
                }
            }
            _ => input.truncate(place),
        }
    }
}

fn pick<'a>(rng: &mut Rng, from: &'a [Vec<u8>]) -> &'a Vec<u8> {
    &from[rng.usize(..from.len())]
}

fn any_range(input: &[u8], rng: &mut Rng) -> Range<usize> {
    let start = rng.usize(..=input.len());
    let longest = if rng.bool() { 8 } else { input.len() };
    start..(start + rng.usize(..=longest)).min(input.len())
}

/// Finds something like a JSON value, name or element, from a random position on.
fn value(input: &[u8], rng: &mut Rng) -> Range<usize> {
    let from = rng.usize(..=input.len());
    let Some(start) = input[from..].iter().position(|byte| b"{[\"-0123456789tfn".contains(byte)) else {
        return any_range(input, rng);
    };
    let start = from + start;
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for (offset, byte) in input[start..].iter().enumerate() {
        let end = start + offset;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => {
                is_text = !is_text;
                if !is_text && depth == 0 {
                    return start..end + 1;
                }
            }
            _ if is_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' | b':' | b'\n' if depth == 0 => return start..end,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return start..end + 1;
                }
            }
            _ => {}
        }
    }
    start..input.len()
}
