//! Fuzzes the code that reads bytes from outside: replies of the API, and files for `enqueue`.
//!
//! By default, as part of `cargo test`, it checks a fixed number of inputs from a fixed seed. `just fuzz` runs for
//! `CHATSYNC_FUZZ_SECONDS` from a random seed. A failure prints the input in hex; pass it in `CHATSYNC_FUZZ_INPUT` to
//! check it alone.

mod corpus;
mod decoder;
mod formats;
mod mutator;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use mutator::Mutator;

/// Checks `count` mutations of a corpus, or as many as fit into the time that the environment sets.
fn fuzz(what: &str, count: u64, mutator: &Mutator, check: impl Fn(&[u8])) {
    if let Ok(hex) = std::env::var("CHATSYNC_FUZZ_INPUT") {
        return check(&from_hex(&hex));
    }
    let seconds = number("CHATSYNC_FUZZ_SECONDS");
    let first = number("CHATSYNC_FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { fastrand::u64(..) } else { 1 });
    let started = Instant::now();
    let is_over = |done: u64| match seconds {
        Some(seconds) => started.elapsed() >= Duration::from_secs(seconds),
        None => done == count,
    };
    let mut done = 0;
    while !is_over(done) {
        let seed = first.wrapping_add(done);
        let input = mutator.input(seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            eprintln!("{what}: failed with seed {seed}, CHATSYNC_FUZZ_INPUT={}", to_hex(&input));
            resume_unwind(panic);
        }
        done += 1;
    }
    println!("{what}: {done} inputs from seed {first} in {:.0?}", started.elapsed());
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("into memory");
        hex
    })
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).expect("hex");
    hex.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, half| byte << 4 | digit(half))).collect()
}
