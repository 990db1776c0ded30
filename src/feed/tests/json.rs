//! JSON, as lines or as arrays.

use super::*;

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
