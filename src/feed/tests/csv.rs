//! Tables with a header.

use super::*;
use crate::domain::OrderId;

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
