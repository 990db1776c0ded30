//! Files for `enqueue`: `domain::feed` against a plain split into lines.

use std::io::BufReader;

use chatsync::domain::feed::{BadLine, Feed, FeedError, MAX_LINE_BYTES};
use chatsync::domain::{NewOrder, OrderId};

use crate::fuzz;
use crate::mutator::Mutator;

#[test]
fn every_line_is_one_order_or_one_complaint() {
    fuzz("formats", 4_000, &mutator(), check);
}

fn mutator() -> Mutator {
    let corpus: [&[u8]; 6] = [
        b"A-1\nA-2\r\n\n  b7fab7ae-11fc-4453-98e1-a\n\xc3\xa9 /?#",
        b"\xef\xbb\xbforder_id,connect_user_id,completed_at\nA-1,user-1,\n\"A,2\",user-2,2026-01-31T18:00:00Z\n",
        b"connect_user_id, Order_ID ,retailer_id,ids_internal,priority\nu,a,r,true,5\n,b,,,\nu,\"c \"\"d\"\"\",r,false,-1",
        b"{\"order_id\":\"A-1\",\"connect_user_id\":\"u\",\"priority\":5}\n{\"order_id\":\"A-2\",\"ids_internal\":true,\"completed_at\":\"2026-01-31T10:00:00-08:00\"}\n",
        b"{\"order_id\":\"a\\u00e9\\n\"}\n{\"order_id\":\"\\ud83d\\ude00\",\"retailer_id\":\"r\"}\n{\"order_id\":\"\"}",
        b"order_id\nA-1\nA-2\nA-3\n",
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

fn check(text: &[u8]) {
    let (items, header) = read(text, 64 * 1024);
    // Byte by byte takes long for the large ones.
    for capacity in if text.len() < 2_000 { [1, 7] } else { [999, 7_777] } {
        let (again, header_again) = read(text, capacity);
        assert_eq!((&items, header), (&again, header_again), "read {capacity} byte(s) at a time");
    }
    let lines = lines(text);
    if let Some(line) = header {
        // Nothing was added: the header is the first line with anything in it, or comes after unreadable ones.
        assert!(items.iter().all(Result::is_err), "orders before a header");
        assert!(lines.iter().any(|(number, _)| *number == line));
        return;
    }
    let format = Format::of(&lines);
    let orders: Vec<_> = lines.iter().filter(|(number, _)| format.header != Some(*number)).collect();
    assert_eq!(items.len(), orders.len(), "orders and complaints");
    for (item, (number, line)) in items.iter().zip(orders) {
        match item {
            Ok(order) => {
                check_order(order);
                let line = readable(line).expect("a good line");
                let expected = format.order_id(line);
                assert!(expected.is_none_or(|id| id == order.order_id.as_str()), "line {number}: {}", order.order_id);
            }
            Err(bad) => {
                assert_eq!(bad.line, *number);
                assert!(bad.reason.is_ascii() && bad.reason.len() < 160, "{bad:?}");
            }
        }
    }
}

/// What the first line that can be read says of the others.
struct Format {
    is_json: bool,
    /// The line that is no order.
    header: Option<u64>,
    /// Where CSV has the order id.
    column: Option<usize>,
}

impl Format {
    fn of(lines: &[(u64, &[u8])]) -> Self {
        let Some((number, first)) = lines.iter().find_map(|(number, line)| Some((*number, readable(line)?))) else {
            return Self { is_json: false, header: None, column: None };
        };
        let is_json = first.starts_with('{');
        let is_torn = first.contains('\r') || first.matches('"').count() % 2 == 1;
        let is_order_id = |name: &str| name.trim().trim_matches('"').trim().eq_ignore_ascii_case("order_id");
        let column = first.split(',').position(is_order_id).filter(|_| !is_json && !is_torn);
        Self { is_json, header: column.map(|_| number), column }
    }

    /// The id that a good line has to give, where that is simple to tell.
    fn order_id(&self, line: &str) -> Option<String> {
        if self.is_json {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            return Some(line["order_id"].as_str().expect("a text").to_owned());
        }
        match self.column {
            None => Some(line.to_owned()),
            Some(_) if line.contains('"') => None,
            Some(column) => Some(line.split(',').nth(column).expect("a field").trim().to_owned()),
        }
    }
}

/// Until the end, or the line of a header that was not understood.
fn read(text: &[u8], capacity: usize) -> (Vec<Line>, Option<u64>) {
    let template = NewOrder { priority: 3, ..NewOrder::new(OrderId::new("template").expect("valid")) };
    let mut items = Vec::new();
    for item in Feed::new(BufReader::with_capacity(capacity, text), template) {
        match item {
            Ok(item) => items.push(item),
            Err(FeedError::Header { line, .. }) => return (items, Some(line)),
            Err(FeedError::Read { .. }) => panic!("memory can be read"),
        }
    }
    (items, None)
}

/// The lines with anything in them, and their numbers.
fn lines(text: &[u8]) -> Vec<(u64, &[u8])> {
    let numbered = (1..).zip(text.split_inclusive(|byte| *byte == b'\n'));
    numbered.filter(|(_, line)| readable(line) != Some("")).collect()
}

/// What a line says, if it is a text and not too long.
fn readable(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok().filter(|_| line.len() <= MAX_LINE_BYTES)?;
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}'))
}

/// What the queue's constraints ask of an order.
fn check_order(order: &NewOrder) {
    assert_eq!(OrderId::new(order.order_id.as_str()).as_ref(), Ok(&order.order_id));
    for id in [&order.connect_user_id, &order.retailer_id].into_iter().flatten() {
        assert!(!id.is_empty() && id.len() <= OrderId::MAX_BYTES && !id.bytes().any(|byte| byte.is_ascii_control()));
    }
    assert!(order.retailer_id.as_ref().is_none_or(|id| id.is_ascii()));
}
