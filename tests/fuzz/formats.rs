//! Files for `enqueue`: checks `feed` against a plain split into lines.

use std::io::{self, Cursor, Read};

use chatsync::domain::{NewOrder, OrderId};
use chatsync::feed::{BadLine, Choice, Feed, MAX_LINE_BYTES};

use crate::fuzz;
use crate::mutator::Mutator;

#[test]
fn every_line_is_one_order_or_one_complaint() {
    fuzz("formats", 4_000, &mutator(), check);
}

fn mutator() -> Mutator {
    let corpus: [&[u8]; 9] = [
        b"A-1\nA-2\r\n\n  b7fab7ae-11fc-4453-98e1-a\n\xc3\xa9 /?#",
        b"\xef\xbb\xbforder_id,connect_user_id,completed_at\nA-1,user-1,\n\"A,2\",user-2,2026-01-31T18:00:00Z\n",
        b"connect_user_id, Order_ID ,retailer_id,ids_internal,priority\nu,a,r,true,5\n,b,,,\nu,\"c \"\"d\"\"\",r,false,-1",
        b"{\"order_id\":\"A-1\",\"connect_user_id\":\"u\",\"priority\":5}\n{\"order_id\":\"A-2\",\"ids_internal\":true,\"completed_at\":\"2026-01-31T10:00:00-08:00\"}\n",
        b"{\"order_id\":\"a\\u00e9\\n\"}\n{\"order_id\":\"\\ud83d\\ude00\",\"retailer_id\":\"r\"}\n{\"order_id\":\"\"}",
        b"order_id\nA-1\nA-2\nA-3\n",
        b"[\n {\"orderId\": \"A-1\"},\n \"A-2\", 3\n]\n",
        b"sep=;\nOrder ID;Connect User ID\nA-1;u\n\"A-2\";NULL\n",
        b"\xff\xfeo\0r\0d\0e\0r\0_\0i\0d\0\n\0A\0\n\0",
    ];
    let pieces: [&[u8]; 40] = [
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b",",
        b",,",
        b";",
        b"\"",
        b"\"\"",
        b"\"a\"",
        b"\"a\nb\"",
        b"\t",
        b"\0",
        b"\x7f",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xc2\xa0",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xed\xa0\x80",
        b".",
        b"..",
        b"./..",
        b"order_id",
        b"order_id,",
        b"connect_user_id,",
        b"priority",
        b"order_id,priority\n",
        b"{\"order_id\":\"x\"}",
        b"{\"order_id\":",
        b"\"priority\":99999,",
        b"[\"a\",null,null,null,null,null]",
        b"null",
        b"true",
        b"-32768",
        b"2026-01-31T18:00:00Z",
        b"9999-12-31T23:59:59-23:59",
        b"\\u0000",
        b"#",
        b"0123456789abcdef",
    ];
    Mutator::new(corpus.iter().map(|text| text.to_vec()).collect(), pieces.iter().map(|piece| piece.to_vec()).collect())
}

type Line = Result<NewOrder, BadLine>;

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Refused: it is no list of orders.
    Refused,
    /// Everything was read.
    Whole,
    /// An error ended it early.
    Torn,
}

fn check(text: &[u8]) {
    let (items, end) = read(text, 64 * 1024);
    // Large inputs take too long byte by byte.
    for size in if text.len() < 2_000 { [1, 7] } else { [999, 7_777] } {
        assert_eq!((&items, &end), (&read(text, size).0, &read(text, size).1), "read {size} byte(s) at a time");
    }
    for item in &items {
        match item {
            Ok(order) => check_order(order),
            Err(bad) => assert!(bad.reason.is_ascii() && bad.reason.len() < 200, "{bad:?}"),
        }
    }
    let lines = lines(text);
    let Some(first) = lines.first().filter(|_| end != End::Refused) else {
        assert!(items.is_empty(), "orders of what was refused");
        return;
    };
    let is_wide = text.starts_with(b"\x1f\x8b") || text.split(|byte| *byte == 0).count() * 3 > text.len();
    if is_wide || text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return;
    }
    if first.1.iter().find(|byte| !b" \t\r\xef\xbb\xbf".contains(byte)) == Some(&b'[') {
        return;
    }
    // Every line is an order or a complaint, except a header and the lines above it.
    let orders = if end == End::Whole { &lines[lines.len() - items.len()..] } else { &lines[..] };
    assert!(end == End::Torn || lines.len() - items.len() <= 2, "lines that gave nothing");
    let skipped = if end == End::Torn {
        orders.iter().position(|(number, _)| Some(*number) == items.first().map(line_of))
    } else {
        Some(0)
    };
    for (item, (number, line)) in items.iter().zip(&orders[skipped.unwrap_or(0)..]) {
        match item {
            Ok(order) => {
                let line = readable(line).expect("a good line");
                let is_quoted = line.contains(['"', '{']);
                assert!(is_quoted || line.contains(order.order_id.as_str()), "line {number}: {}", order.order_id);
            }
            Err(bad) => assert_eq!(bad.line, *number),
        }
    }
}

/// Returns the line of a complaint; orders have none.
fn line_of(item: &Line) -> u64 {
    item.as_ref().map_or_else(|bad| bad.line, |_| 0)
}

/// A reader that returns this many bytes at a time.
struct Pieces {
    rest: Cursor<Vec<u8>>,
    size: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.size.min(buffer.len());
        self.rest.read(&mut buffer[..size])
    }
}

fn read(text: &[u8], size: usize) -> (Vec<Line>, End) {
    let mut items = Vec::new();
    // A refused input is no list of orders or a damaged gzip stream: reading from memory does not fail.
    let pieces = Pieces { rest: Cursor::new(text.to_vec()), size };
    let Ok(feed) = Feed::open(pieces, Choice::Auto) else { return (items, End::Refused) };
    for item in feed {
        match item {
            Ok(item) => items.push(item),
            Err(_) => return (items, End::Torn),
        }
    }
    (items, End::Whole)
}

/// Returns the lines that are not blank, with their numbers.
fn lines(text: &[u8]) -> Vec<(u64, &[u8])> {
    let numbered = (1..).zip(text.split_inclusive(|byte| *byte == b'\n'));
    numbered.filter(|(_, line)| readable(line) != Some("")).collect()
}

/// Returns the text of a line, if it is UTF-8 and not too long.
fn readable(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok().filter(|_| line.len() <= MAX_LINE_BYTES)?;
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}'))
}

/// Asserts what the queue's constraints require.
fn check_order(order: &NewOrder) {
    assert_eq!(OrderId::new(order.order_id.as_str()).as_ref(), Ok(&order.order_id));
    for id in [&order.connect_user_id, &order.retailer_id].into_iter().flatten() {
        assert!(!id.is_empty() && id.len() <= OrderId::MAX_BYTES && !id.bytes().any(|byte| byte.is_ascii_control()));
    }
    assert!(order.retailer_id.as_ref().is_none_or(|id| id.is_ascii()));
}
