use std::io::{Cursor, Write as _};

use flate2::write::GzEncoder;

use super::*;
use crate::domain::OrderId;

fn open(text: impl AsRef<[u8]>) -> Result<Feed, FeedError> {
    Feed::open(Cursor::new(text.as_ref().to_vec()), Choice::Auto)
}

fn read(text: impl AsRef<[u8]>) -> Vec<Result<NewOrder, BadLine>> {
    open(text).expect("a feed").map(|line| line.expect("readable")).collect()
}

fn ids(orders: &[Result<NewOrder, BadLine>]) -> Vec<String> {
    orders
        .iter()
        .map(|order| match order {
            Ok(order) => order.order_id.to_string(),
            Err(bad) => format!("line {}", bad.line),
        })
        .collect()
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    match open(&text) {
        Err(FeedError::Refused(refusal)) => refusal.to_string(),
        Err(error) => panic!("{error}"),
        Ok(feed) => {
            let orders: Vec<_> = feed.map(|line| line.expect("readable")).collect();
            panic!("{:?} was read: {:?}", String::from_utf8_lossy(text.as_ref()), ids(&orders))
        }
    }
}

#[test]
fn plain_lines_are_ids() {
    let orders = read("\u{feff}first\r\n\n  a/b \nd-e=f\n\u{feff}last\u{200b}");
    assert_eq!(ids(&orders), ["first", "a/b", "d-e=f", "last"]);
    assert_eq!(orders[0].as_ref().expect("good").priority, None);
}

#[test]
fn a_plain_line_that_does_not_look_like_an_id_is_rejected_unless_the_format_is_chosen() {
    let others = ["a,b", "\"c\"", "order_id", "(2 rows)", "-----", "NULL", "{\"order_id\":\"d\"}", "A;u"];
    let text = "first\n".repeat(12) + &others.join("\n") + "\nlast\n";
    let rejected: Vec<String> = (13..=20).map(|line| format!("line {line}")).collect();
    assert_eq!(ids(&read(&text))[12..20], rejected);
    let feed = Feed::open(Cursor::new(text.as_bytes().to_vec()), Choice::Plain).expect("a feed");
    let orders: Vec<_> = feed.map(|line| line.expect("readable")).collect();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(ids(&orders), lines);
}

#[test]
fn csv_columns_are_found_by_name() {
    let text = "connect_user_id, Order_ID ,completed_at\nu1,\"a,b\",2026-01-31T10:00:00-08:00\n,second,\n";
    let orders = read(text);
    let first = orders[0].as_ref().expect("good");
    assert_eq!((first.order_id.as_str(), first.connect_user_id.as_deref()), ("a,b", Some("u1")));
    assert_eq!(first.completed_at.map(|time| time.to_rfc3339()), Some("2026-01-31T18:00:00+00:00".into()));
    let second = orders[1].as_ref().expect("good");
    assert_eq!((second.connect_user_id.as_deref(), second.completed_at), (None, None));
}

#[test]
fn headers_of_spreadsheets_and_exporters_are_understood() {
    for text in [
        "orderId,connectUserId\nA-1,u\nA-2,u\n",
        "Order ID,Connect User ID\nA-1,u\nA-2,u\n",
        "ORDER_ID;CONNECT_USER_ID\nA-1;u\nA-2;u\n",
        "order-id\tconnect-user-id\nA-1\tu\nA-2\tu\n",
        "sep=,\norder_id,connect_user_id\nA-1,u\nA-2,u\n",
        "sep=;\r\n\"order_id\";\"connect_user_id\"\r\nA-1;u\r\n\"A-2\";u\r\n",
        "\u{feff}sep=\t\norder_id\tconnect_user_id\nA-1\tu\nA-2\tu\n",
        "order_id\nA-1\nA-2\n",
        "\n\nOrder ID\n\nA-1\nA-2\n",
    ] {
        let orders = read(text);
        assert_eq!(ids(&orders), ["A-1", "A-2"], "{text}");
        let user = orders[1].as_ref().expect("good").connect_user_id.as_deref();
        assert_eq!(user, text.to_lowercase().contains("user").then_some("u"), "{text}");
    }
}

#[test]
fn nulls_of_exporters_are_no_values() {
    let orders = read("order_id,connect_user_id,completed_at,priority,ids_internal\nA,\\N,NULL,,null\n");
    assert_eq!(orders[0].as_ref().expect("good"), &NewOrder::new(OrderId::new("A").expect("an id")));
    assert_eq!(ids(&read("order_id,priority\nNULL,1\n\\N,1\nB,1\n")), ["line 2", "line 3", "B"]);
}

#[test]
fn ndjson_lines_are_objects() {
    let orders = read(
        "{\"order_id\":\"a\",\"priority\":7,\"ids_internal\":true,\"connectUserId\":null}\n\
         {\"orderId\":18446744073709551617,\"priority\":\"-3\",\"ids_internal\":\"f\"}\n",
    );
    let first = orders[0].as_ref().expect("good");
    assert_eq!((first.priority, first.ids_internal, first.connect_user_id.as_deref()), (Some(7), Some(true), None));
    let second = orders[1].as_ref().expect("good");
    assert_eq!(
        (second.order_id.as_str(), second.priority, second.ids_internal),
        ("18446744073709551617", Some(-3), Some(false))
    );
}

#[test]
fn arrays_are_read_in_any_layout() {
    for text in [
        r#"[{"order_id":"A-1"},{"order_id":"A-2"}]"#,
        "[\n  {\n    \"order_id\": \"A-1\"\n  },\n  {\n    \"order_id\": \"A-2\"\n  }\n]\n",
        r#"["A-1", "A-2"]"#,
        "[\n\"A-1\",\n\"A-2\"\n]",
        "[\"A-1\"]\n[\"A-2\"]\n",
        "[\"A-1\",{\"orderId\":\"A-2\"}]",
    ] {
        assert_eq!(ids(&read(text)), ["A-1", "A-2"], "{text}");
    }
    assert_eq!(ids(&read("[1, 20, 18446744073709551617]")), ["1", "20", "18446744073709551617"]);
    assert_eq!(ids(&read("[]")), [""; 0]);
    let odd = "[\n\"a]\\\",\",\n[\"b\"],\n{\"order_id\":\"c\"},\n{\"id\":1},\nnull,\n1.5,\n\"d\"\n]";
    assert_eq!(
        ids(&read(odd)),
        ["line 2", "line 3", "c", "line 5", "line 6", "line 7", "d"].map(|id| if id == "line 2" {
            "a]\","
        } else {
            id
        })
    );
}

#[test]
fn an_element_that_is_not_closed_does_not_affect_the_next_ones() {
    let third = "{\"order_id\":\"c\"}";
    for torn in [
        "{\"order_id\":\"b\",",
        "{\"order_id\":\"b\"",
        "{\"order_id\":\"b},",
        "\"b,",
        "{\n\"order_id\": \"b,\n\"connect_user_id\": \"u\"\n},",
    ] {
        let text = format!("[\n{{\"order_id\":\"a\"}},\n{torn}\n{third},\n\"d\"\n]\n");
        assert_eq!(ids(&read(&text)), ["a", "line 3", "c", "d"], "{torn}");
    }
    assert_eq!(ids(&read("[\"a\",\n{\"order_id\":\"b\"\n]\n[\"c\"]\n")), ["a", "line 2", "c"]);
}

#[test]
fn an_incomplete_array_is_reported_after_its_elements() {
    for (text, complaint) in [
        ("[\"A-1\",\n\"A-2\"", "line 2 ends within a JSON array"),
        ("[\"A-1\",\"A-2\",\n{\"order_id\":\"A", "line 2 ends within a JSON array"),
        ("[\"A-1\",\"A-2\"]\n\nA-3\n", "line 3 has something outside the JSON array"),
    ] {
        assert!(refusal(text).contains(complaint), "{text}");
    }
    // Beyond the sample.
    let many = "[".to_owned() + &"\"A-1\",\n".repeat(20_000);
    for (end, complaint) in [
        ("\"A-2\"", "ends within a JSON array"),
        ("{\"order_id\":\"A", "ends within a JSON array"),
        ("\"A-2\"]\n\nA-3\n", "has something after the JSON array"),
    ] {
        let text = many.clone() + end;
        let results: Vec<_> = open(text).expect("a feed").collect();
        let (last, orders) = results.split_last().expect("an end");
        assert!(orders.len() >= 20_000 && orders.iter().all(|order| matches!(order, Ok(Ok(_)))), "{end}");
        let error = last.as_ref().expect_err("it is torn").to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

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
fn a_second_header_is_rejected_and_applied() {
    let text = "order_id,connect_user_id\nA,u\norder_id,connect_user_id\nB,v\nConnect_User_Id;orderId\nw;C\n";
    let orders = read(text);
    assert_eq!(ids(&orders), ["A", "line 3", "B", "line 5", "C"]);
    assert_eq!(orders[4].as_ref().expect("good").connect_user_id.as_deref(), Some("w"));
    // Rows below unknown columns are not read as other columns.
    let text = "order_id,priority\nA,1\norder_id,colour\nB,2\nC,3\norder_id\nD\n";
    assert_eq!(ids(&read(text)), ["A", "line 3", "line 4", "line 5", "line 6", "D"]);
    assert_eq!(ids(&read("order_id,priority\nA,1\norder_id,5,6\nB,2\n")), ["A", "line 3", "B"]);
    assert_eq!(ids(&read("order_id\nA\n(1 row)\n--------\nB\n")), ["A", "line 3", "line 4", "B"]);
}

#[test]
fn a_carriage_return_inside_a_line_hides_nothing() {
    assert_eq!(ids(&read("order_id,priority\na,1\rb,2\nc,3\r\n")), ["line 2", "c"]);
    assert_eq!(ids(&read("a\nb\rc\nd\r\n")), ["a", "line 2", "d"]);
    assert!(refusal("order_id\rA-1\rA-2\r").contains("carriage return"));
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
    for (text, reason) in [
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
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(reason), "{text}: {refusal}");
        assert!(!refusal.contains("A-1") && refusal.len() < 250, "{refusal}");
    }
}

#[test]
fn tabs_at_the_ends_of_a_line_are_columns() {
    let orders =
        read("order_id\tconnect_user_id\tcompleted_at\n1001\tu1\t2026-01-31 18:00:00+00\n1002\tu2\t\n1003\t\t\n");
    assert_eq!(ids(&orders), ["1001", "1002", "1003"]);
    assert_eq!(orders[1].as_ref().expect("good").connect_user_id.as_deref(), Some("u2"));
    assert_eq!(ids(&read("connect_user_id\torder_id\n\t1001\nu\t1002\n\tu9\t1003\n")), ["1001", "1002", "line 4"]);
    assert!(refusal("\torder_id\tconnect_user_id\n0\t1001\t\n1\t1002\t\n").contains("not known, number 1"));
    assert_eq!(ids(&read("order_id;connect_user_id\nA;u\n;\n ; \nB;v\n")), ["A", "B"]);
}

#[test]
fn rows_of_other_files_below_a_header_are_no_orders() {
    for line in [
        "1;u",
        "{\"a\":1}",
        "[\"7\"]",
        "<html>",
        "'1'",
        "1002;",
        "[2 rows x 1 columns]",
        "(2 Zeilen)",
        "\\.",
        "sep=;",
        "NULL",
        "nan",
        "ERROR: connection lost, retrying",
        "#REF!",
        "A\u{85}B",
    ] {
        assert_eq!(ids(&read(format!("order_id\nA\n{line}\nB\n"))), ["A", "line 3", "B"], "{line}");
    }
    for line in [
        "{\"order_id\":\"2\",\"connect_user_id\":\"v\"}",
        "ERROR: connection lost, retrying",
        "INSERT INTO x VALUES (1,2);",
        "<a href=x>,</a>",
        "---,---",
    ] {
        assert_eq!(ids(&read(format!("order_id,connect_user_id\nA,u\n{line}\nB,u\n"))), ["A", "line 3", "B"], "{line}");
    }
    for header in ["connect_user_id,retailer_id", "id,user", "Order Number,Customer"] {
        let text = format!("order_id,connect_user_id\nA,u\n{header}\nv,5\norder_id,connect_user_id\nB,u\n");
        assert_eq!(ids(&read(text)), ["A", "line 3", "line 4", "line 5", "B"], "{header}");
    }
}

#[test]
fn values_are_read_as_spreadsheets_and_pandas_write_them() {
    let orders = read("order_id, connect_user_id\n=\"00123\", \"u\"\nA,nan\nB,<NA>\nC,None\n");
    assert_eq!(ids(&orders), ["00123", "A", "B", "C"]);
    let users: Vec<_> = orders.iter().map(|order| order.as_ref().expect("good").connect_user_id.as_deref()).collect();
    assert_eq!(users, [Some("u"), None, None, None]);
    assert_eq!(ids(&read("order_id,connect_user_id\nA,u\u{fffd}\nB,u\n")), ["line 2", "B"]);
}

#[test]
fn elements_of_an_array_are_json() {
    assert_eq!(
        ids(&read("[\n\"1\",\n1 2 3,\n0x1F,\n1_0,\ntrue,\n\"NULL\",\n\"2\"]")),
        ["1", "line 3", "line 4", "line 5", "line 6", "line 7", "2"]
    );
    assert_eq!(ids(&read("[\n{\"order_id\":\"1\"}\n{\"order_id\":\"2\"}\n]")), ["1", "2"]);
    for text in [
        "[2026-01-31 18:00:00] INFO order=1001\n",
        "[18:00, 31/01/2026] Bob: 1001\n",
        "[1]\nzz3\n",
        "[{\"id\":1},{\"id\":2}]",
        "[x]\ny = 1\n",
    ] {
        assert!(refusal(text).contains("JSON array"), "{text}");
    }
}

#[test]
fn rounded_ids_are_counted_with_an_example() {
    let mut feed = open("order_id\nA-1\n1.23457E+15\n1.23458E+15\n").expect("a feed");
    assert_eq!(feed.by_ref().count(), 3);
    assert_eq!(feed.rounded(), Some(&Rounded { ids: 2, example: ("1.23457E+15".into(), 3) }));
}

#[test]
fn the_last_lines_of_reports_are_no_ids() {
    let totals =
        ["Total", "Total: 2", "Grand Total", "SUBTOTAL", "2 records", "12 orders", "EOF", "-- end --", "Sum = 7"];
    for total in totals {
        assert_eq!(ids(&read(format!("1001\n1002\n{total}\n"))), ["1001", "1002", "line 3"], "{total}");
        let csv = format!("order_id;connect_user_id\n1001;u\n{total};7\n");
        assert_eq!(ids(&read(&csv)), ["1001", "line 3"], "{total}");
    }
    for id in ["Totally-1", "END-1", "END42", "-1-"] {
        assert_eq!(ids(&read(format!("1001\n{id}\n"))), ["1001", id]);
    }
    for quoted in ["'1002", "\u{201c}1002\u{201d}", "\u{2018}1002\u{2019}"] {
        assert_eq!(ids(&read(format!("1001\n{quoted}\n"))), ["1001", "line 2"], "{quoted}");
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

#[test]
fn a_plain_line_is_one_word_that_has_no_other_meaning() {
    for line in [
        "1002 x",
        "A-2 user-2",
        "A-2\u{a0}user-2",
        "Segmentation fault",
        "Killed",
        "Terminated",
        "done",
        "(END)",
        "...",
        "\u{2026}",
        "-",
        "~",
        "true",
        "2026-01-31",
        "2026-01-31T18:00:00Z",
        "31.01.2026",
        "1/31/2026",
        "18:00",
        "18:00:00.5",
        "https://example.com/A-2",
        "KEY=A-2",
        "A-2\\",
        "<A-2>",
    ] {
        assert_eq!(ids(&read(format!("A-1\n{line}\nA-3\n"))), ["A-1", "line 2", "A-3"], "{line}");
        assert_eq!(ids(&read(format!("order_id\nA-1\n{line}\nA-3\n"))), ["A-1", "line 3", "A-3"], "{line}");
        if !["Killed", "Terminated", "done"].contains(&line) {
            refusal(format!("{line}\n{line}\nA-3\n"));
        }
    }
    for id in [
        "ABC",
        "2026-01-31-0017",
        "2026-13-31",
        "12.34.56",
        "20260131",
        "18:99",
        "a.b:c/d+e=f#g@h~i%j&k*l!m_1",
        "\u{4e00}1",
    ] {
        assert_eq!(ids(&read(format!("A-1\n{id}\nA-3\n"))), ["A-1", id, "A-3"], "{id}");
    }
    // Random ids without a digit.
    assert_eq!(ids(&read("q3Zk\nabcd\nx7\nabc\nbcdef\nk\nlm\n")).len(), 7);
    assert_eq!(
        ids(&read("order_id,connect_user_id\nA-1,u\n-,u\n31.01.2026,u\ntrue,u\nA 2,u\n")),
        ["A-1", "line 3", "line 4", "line 5", "A 2"]
    );
}

#[test]
fn text_after_a_closing_quote_is_not_joined_to_the_field() {
    for row in ["\"A-2\"1,u", "\"A-2\" \"A-3\",u", "\"\"A-2\"\",u", "A-2,\"u\"v", "A-2, \"u,v\"", "A-2,\"u\" v,\"w\""] {
        assert_eq!(ids(&read(format!("order_id,connect_user_id\nA-1,u\n{row}\n"))), ["A-1", "line 3"], "{row}");
    }
    for (row, id, user) in [
        ("\"A\"\"2\",\"u\"", "A\"2", "u"),
        ("\"A-2\" , \"u\" ", "A-2", "u"),
        ("=\"002\",\"u,\"\"v\"", "002", "u,\"v"),
        ("\"\"\"\",u\"v\"", "line 3", ""),
    ] {
        let orders = read(format!("order_id,connect_user_id\nA-1,u\n{row}\n"));
        assert_eq!(ids(&orders)[1], id, "{row}");
        assert_eq!(orders[1].as_ref().map_or(Some(""), |order| order.connect_user_id.as_deref()), Some(user), "{row}");
    }
}
