//! One id per line: what is an id, and what is not.

use super::*;

#[test]
fn plain_lines_are_ids() {
    let orders = read("\u{feff}first\r\n\n  a/b \nd-e\n\u{feff}last\u{200b}");
    assert_eq!(ids(&orders), ["first", "a/b", "d-e", "last"]);
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
    for id in ["Totally-1", "END-1", "END42"] {
        assert_eq!(ids(&read(format!("1001\n{id}\n"))), ["1001", id]);
    }
    for quoted in ["'1002", "\u{201c}1002\u{201d}", "\u{2018}1002\u{2019}"] {
        assert_eq!(ids(&read(format!("1001\n{quoted}\n"))), ["1001", "line 2"], "{quoted}");
    }
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
        "/spool/A-2",
        "#A-2",
        "+A-2",
        "-A-2",
        "A-2$",
        "A-2^M$",
        "orders.csv:12:A-2",
        "jane.doe@example.com",
        "$12.50",
        "./out/A-2",
        "\u{2022}A-2",
        "A=2D2",
        "1.001.234",
        "A-2...",
        "A-2\\",
        "<A-2>",
    ] {
        assert_eq!(ids(&read(format!("A-1\n{line}\nA-3\n"))), ["A-1", "line 2", "A-3"], "{line}");
        assert_eq!(ids(&read(format!("order_id\nA-1\n{line}\nA-3\n"))), ["A-1", "line 3", "A-3"], "{line}");
        if !["Killed", "Terminated", "done"].contains(&line) {
            refusal(format!("{line}\n{line}\nA-3\n"));
        }
    }
}

#[test]
fn odd_ids_are_read_where_they_can_be_nothing_else() {
    for id in ["ABC", "2026-01-31-0017", "2026-13-31", "12.34.56", "20260131", "a.b/c+d#e~f%g&h*i!j_1==", "\u{4e00}1"] {
        assert_eq!(ids(&read(format!("A-1\n{id}\nA-3\n"))), ["A-1", id, "A-3"], "{id}");
    }
    // Random ids without a digit.
    assert_eq!(ids(&read("q3Zk\nabcd\nx7\nabc\nbcdef\nk\nlm\n")).len(), 7);
    assert_eq!(
        ids(&read("order_id,connect_user_id\nA-1,u\n-,u\n31.01.2026,u\ntrue,u\nA 2,u\nj@example.com,u\n")),
        ["A-1", "line 3", "line 4", "line 5", "A 2", "line 7"]
    );
}
