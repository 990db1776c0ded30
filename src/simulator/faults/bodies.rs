//! Bodies that no API should send.
//!
//! Used by `effect`. Invariant: the simulator holds only a piece of a large body: `huge` generates its pieces while
//! sending, and `bomb` sends one compressed piece repeatedly.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use flate2::{Compress, Compression, Crc, FlushCompress};
use futures_util::stream;

use super::super::random::{hash, id, mix};

/// JSON, but neither a conversation nor a token.
pub(super) const OTHER_SHAPE: &str =
    r#"{"data": [{"type": "conversation", "attributes": null}], "links": {"next": 2}}"#;

/// A server's page for browsers.
pub(super) const PAGE: &str =
    "<!DOCTYPE html>\n<html><head><title>Please sign in</title></head><body>Please sign in.</body></html>\n";

const MIB: usize = 1 << 20;

/// Messages per piece of a huge conversation, and the length of such a message.
const PIECE: usize = 56;
const MESSAGE: usize = 1_170;

pub(super) fn noise(rng: &mut fastrand::Rng) -> Bytes {
    (0..rng.usize(1..800)).map(|_| rng.u8(..)).collect()
}

/// Returns `body` with an invalid UTF-8 byte in its first text.
pub(super) fn not_utf8(body: &[u8]) -> Bytes {
    let quote = body.iter().position(|byte| *byte == b'"').map_or(0, |quote| quote + 1);
    [&body[..quote], b"\xff", &body[quote..]].concat().into()
}

/// Makes a valid conversation of about `mebibytes`: the same for the same path, with messages of the maximum length.
pub(super) fn huge(path: &str, mebibytes: u32) -> Body {
    let order = hash(0, path);
    let first = id(mix(order, 1));
    let text = "Please take the ripe ones, and a receipt. ".repeat(24);
    let text = text[..1_000].to_owned();
    let pieces = (mebibytes as usize * MIB).div_ceil(PIECE * MESSAGE);
    let middle = (0..pieces).map(move |piece| {
        let mut messages = String::with_capacity(PIECE * (MESSAGE + 100));
        for number in piece * PIECE..(piece + 1) * PIECE {
            let comma = if number == 0 { "" } else { "," };
            let (day, hour, minute) = (number / 1_440 % 28 + 1, number / 60 % 24, number % 60);
            write!(
                messages,
                r#"{comma}{{"id":{},"order_id":{},"created_at":"2026-01-{day:02}T{hour:02}:{minute:02}:00Z","recipient_id":2,"recipient_type":"driver","sender_id":1,"sender_type":"user","body":"{text}"}}"#,
                first + number as u64,
                id(order),
            )
            .expect("memory takes any text");
        }
        Bytes::from(messages)
    });
    let start = Bytes::from_static(br#"{"chat_messages":["#);
    let end = Bytes::from_static(br#"],"metadata":{"is_expired":false}}"#);
    let all = std::iter::once(start).chain(middle).chain([end]);
    Body::from_stream(stream::iter(all.map(Ok::<_, Infallible>)))
}

/// Makes a gzip stream of about a byte per KiB: an empty conversation with `mebibytes` of blanks.
pub(super) fn bomb(mebibytes: u32) -> Body {
    static BLANKS: LazyLock<Deflated> = LazyLock::new(|| Deflated::new(&[b' '; MIB], FlushCompress::Full));
    const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];

    let start = Deflated::new(br#"{"is_expired":false,"chat_messages":["#, FlushCompress::Full);
    let end = Deflated::new(b"]}", FlushCompress::Finish);
    let mut sum = Crc::new();
    sum.combine(&start.sum);
    (0..mebibytes).for_each(|_| sum.combine(&BLANKS.sum));
    sum.combine(&end.sum);
    let trailer = [sum.sum().to_le_bytes(), sum.amount().to_le_bytes()].concat();

    let middle = std::iter::repeat_n(BLANKS.bytes.clone(), mebibytes as usize);
    let all = [Bytes::from_static(HEADER), start.bytes].into_iter().chain(middle).chain([end.bytes, trailer.into()]);
    Body::from_stream(stream::iter(all.map(Ok::<_, Infallible>)))
}

/// A piece of a deflate stream that depends on no other piece, and the checksum of its plain text.
struct Deflated {
    bytes: Bytes,
    sum: Crc,
}

impl Deflated {
    fn new(plain: &[u8], end: FlushCompress) -> Self {
        let mut sum = Crc::new();
        sum.update(plain);
        let mut bytes = Vec::with_capacity(16 * 1024);
        let mut deflate = Compress::new(Compression::best(), false);
        deflate.compress_vec(plain, &mut bytes, end).expect("a fresh stream takes what it is given");
        assert_eq!(deflate.total_in(), plain.len() as u64, "blanks and a few bytes fit into 16 KiB");
        Self { bytes: bytes.into(), sum }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::body::to_bytes;
    use flate2::read::GzDecoder;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn a_huge_body_is_a_valid_conversation_of_that_size() {
        let body = to_bytes(huge("/a", 2), usize::MAX).await.unwrap();
        assert!((2 * MIB..2 * MIB + MIB / 4).contains(&body.len()), "{}", body.len());
        let reply: Value = serde_json::from_slice(&body).unwrap();
        let messages = reply["chat_messages"].as_array().unwrap();
        assert!(messages.len() > 1_500 && messages.iter().all(|message| message["body"].is_string()));
        assert!(messages.iter().map(|message| message["id"].as_u64().unwrap()).is_sorted_by(|a, b| a < b));
        assert_eq!(to_bytes(huge("/a", 2), usize::MAX).await.unwrap(), body);
    }

    #[tokio::test]
    async fn a_bomb_is_tiny_on_the_wire_and_valid_once_decompressed() {
        let wire = to_bytes(bomb(64), usize::MAX).await.unwrap();
        assert!(wire.len() < 128 * 1024, "{} bytes", wire.len());
        let mut body = Vec::new();
        GzDecoder::new(&wire[..]).read_to_end(&mut body).unwrap();
        assert!(body.len() > 64 * MIB);
        let reply: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(reply["chat_messages"], Value::Array(Vec::new()));
    }

    #[test]
    fn a_body_that_is_not_utf8_is_still_the_reply_but_for_one_byte() {
        let spoilt = not_utf8(br#"{"chat_messages":[]}"#);
        assert!(std::str::from_utf8(&spoilt).is_err());
        assert_eq!(String::from_utf8_lossy(&spoilt), "{\"\u{fffd}chat_messages\":[]}");
    }
}
