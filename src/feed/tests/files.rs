//! Whole files: encodings, compression, and what is no list of orders.

use std::io::Write as _;

use flate2::write::GzEncoder;

use super::*;

#[test]
fn a_malformed_line_is_reported_and_skipped() {
    let long = "x".repeat(MAX_LINE_BYTES + 10);
    let mut text = format!("good1\ngood2\n{}\ngood3\na\tb\n..\n", "y".repeat(600)).into_bytes();
    text.extend_from_slice(b"\xff\xfe\nlast\n");
    text.extend_from_slice(format!("{long}\nfinal").as_bytes());
    let expected = ["good1", "good2", "line 3", "good3", "line 5", "line 6", "line 7", "last", "line 9", "final"];
    assert_eq!(ids(&read(text)), expected);

    let csv = "order_id,priority\n\"open,1\nb,2\nc\nd,high\n,1\n";
    assert_eq!(ids(&read(csv)), ["line 2", "b", "line 4", "line 5", "line 6"]);
    let json = "{\"order_id\":\"a\"}\nnonsense\n{\"order_id\":5.5}\n{\"id\":\"x\"}\n[\"y\"]\n{\"order_id\":\"z\",\"orderId\":\"z\"}\n{\"order_id\":\"b\"}";
    assert_eq!(ids(&read(json)), ["a", "line 2", "line 3", "line 4", "line 5", "line 6", "b"]);
}

#[test]
fn compressed_and_wide_texts_are_read() {
    let text = "order_id,connect_user_id\nA-1,\u{fc}\nA-2,u\n";
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let mut two = gzip.clone();
    two.extend_from_slice(&{
        let mut more = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        more.write_all(b"A-3,u\n").expect("memory");
        more.finish().expect("memory")
    });
    for bytes in [
        gzip.clone(),
        little(&format!("\u{feff}{text}")),
        big(&format!("\u{feff}{text}")),
        little("order_id\nA-1\nA-2\n"),
        big("order_id\r\nA-1\r\nA-2\r\n"),
    ] {
        assert_eq!(ids(&read(bytes)), ["A-1", "A-2"]);
    }
    assert_eq!(ids(&read(two)), ["A-1", "A-2", "A-3"]);
    let mut lone = little("\u{feff}order_id\nA");
    lone.extend_from_slice(&[0x00, 0xd8]);
    lone.extend_from_slice(&little("\nB\n"));
    assert_eq!(ids(&read(lone)), ["line 2", "B"]);

    let many: Vec<String> = (0..50_000).map(|n| format!("order-{n}")).collect();
    let mut torn = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    torn.write_all(many.join("\n").as_bytes()).expect("memory");
    let torn = torn.finish().expect("memory");
    let results: Vec<_> = open(&torn[..torn.len() - 1_000]).expect("a feed").collect();
    let error = results.last().expect("an end").as_ref().expect_err("it is cut").to_string();
    assert!(error.contains("the compressed file is truncated"), "{error}");
}

/// Texts that are no list of orders, and a word of the reason.
const NO_LISTS: &[(&str, &str)] = &[
    ("{\n  \"order_id\": \"A-1\"\n}\n{\n  \"order_id\": \"A-2\"\n}\n", "several lines"),
    ("{'order_id': 'A-1'}\n", "no line is a JSON object"),
    ("{\"id\":\"A-1\"}\n{\"id\":\"A-2\"}\n", "no line is a JSON object"),
    ("['A-1', 'A-2']\n", "JSON array"),
    ("'order_id'\n'A-1'\n'A-2'\n", "quotes"),
    ("404 page not found\n", "sentence"),
    ("ERROR 1045 (28000): Access denied\n", "error message"),
    ("2026-01-31T18:00:00Z INFO order A-1 done\n", "sentence"),
    ("- A-1\n- A-2\n", "list"),
    ("---\n- A-1\n- A-2\n", "YAML"),
    ("[\"A-1\",\"u1\"]\n[\"A-2\",\"u2\"]\n", "several values"),
    ("[\"order_id\",\"connect_user_id\"]\n[\"A-1\",5]\n", "several values"),
    ("f0_\n100001\n100002\n", "name of a column"),
    ("_col0\nA-1\nA-2\n", "name of a column"),
    ("EXPR$0\nA-1\nA-2\n", "name of a column"),
    ("Column1\nA-1\nA-2\n", "name of a column"),
    ("Order\u{2116}\n1\n2\n", "name of a column"),
    ("A-1 user-1\nA-2 user-2\n", "several words"),
    ("A-1 A-2 A-3\n", "several words"),
    ("2026-01-31T18:00:00Z A-1\n", "several words"),
    ("2026-01-31\n2026-02-01\n", "like an id"),
    ("A-1\nA-2 x\nA-3 y\nA-4 z\n", "most lines"),
    ("orders:\n  - id: A-1\n", "list"),
    ("From: a@b.com\nTo: x\n", "sentence"),
    ("DATABASE_URL=postgres://h/db\nPASSWORD=A-1\n", "setting"),
    ("#!/bin/sh\necho A-1\n", "script"),
    ("version https://git-lfs.github.com/spec/v1\n", "script"),
    ("\\begin{tabular}{l}\nA-1 \\\\\n", "document"),
    ("Bestellnummer\nA-1\nA-2\nA-3\n", "name of a column"),
    ("pedido\n100001\n100002\n100003\n", "name of a column"),
    ("\"A-1\"\n\"A-2\"\n", "quotes"),
    ("'A-1'\n", "quotes"),
    ("<!DOCTYPE html>\n<html>\n", "HTML"),
    ("<?xml version=\"1.0\"?>\n", "HTML or XML"),
    ("INSERT INTO orders VALUES ('A-1');\n", "SQL"),
    ("-- PostgreSQL database dump\n", "SQL"),
    ("ERROR:  relation \"orders\" does not exist\n", "error message"),
    (" order_id | connect_user_id \n----------+-----------------\n A-1      | u\n(1 row)\n", "frames"),
    (" order_id \n----------\n A-1\n(1 row)\n", "frames"),
    ("+----------+\n| order_id |\n+----------+\n| A-1      |\n+----------+\n", "frames"),
    ("\u{250c}\u{2500}\u{2500}\u{2510}\n\u{2502} order_id \u{2502}\n", "frames"),
    ("| order_id |\n|---|\n| A-1 |\n", "frames"),
    ("-[ RECORD 1 ]---\norder_id | A-1\n", "frames"),
    ("order_id|connect_user_id\nA-1|u\n", "\"|\""),
    ("order_id  connect_user_id\n--------  ----\nA-1       u\n", "frames"),
    ("order_id = A-1\n", "name with its value"),
    ("order_id: A-1\n", "name with its value"),
    ("A-1,user-1\nA-2,user-2\n", "separators"),
    ("id;user_id\nA-1;user-1\n", "separators"),
    ("orderId\tuserId\nA-1\tu\n", "not known"),
    ("Orders of May,\norder_id,connect_user_id\nA-1,user-1\n", "separators"),
    ("Orders of May\norder_id,connect_user_id\nA-1,user-1\n", "above the header"),
    ("Order number\nA-1\nA-2\n", "name of a column"),
    ("id\nA-1\nA-2\n", "name of a column"),
    ("sep=;\nA-1;user-1\n", "no header"),
    ("order_id,colour\nA,red\n", "number 2"),
    ("order_id,order_id\nA,B\n", "named before, number 2"),
    ("title\na,b\nc,d\n", "most lines"),
];

#[test]
fn a_text_that_is_no_list_of_orders_is_refused() {
    let noise: Vec<u8> = (0..40_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let mut packed = b"\x28\xb5\x2f\xfd".to_vec();
    packed.extend_from_slice(&noise);
    for (bytes, reason) in [
        (b"PK\x03\x04rest".to_vec(), "Excel"),
        (b"PAR1rest".to_vec(), "Parquet"),
        (packed, "zstd"),
        (noise, "not text"),
        (b"caf\xe9\nna\xefve\n".to_vec(), "not text"),
    ] {
        assert!(refusal(bytes).contains(reason), "{reason}");
    }
    for (text, reason) in NO_LISTS {
        let refusal = refusal(text);
        assert!(refusal.contains(reason), "{text}: {refusal}");
        assert!(!refusal.contains("A-1") && refusal.len() < 250, "{refusal}");
    }
}

#[test]
fn a_compressed_file_that_was_cut_gives_what_came_before() {
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).expect("memory");
        encoder.finish().expect("memory")
    };
    let mut file = gzip("A-1\nA-2\n");
    let second = gzip("A-3\n");
    file.extend_from_slice(&second[..second.len() / 2]);
    let results: Vec<_> = open(file).expect("a feed").collect();
    let (last, orders) = results.split_last().expect("an end");
    assert_eq!(orders.len(), 2);
    assert!(last.as_ref().expect_err("cut").to_string().contains("truncated"));
}
