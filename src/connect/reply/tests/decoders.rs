//! The quick decoder and the careful one: they agree, and neither panics.

use proptest::prelude::*;

use super::*;

fn carefully(json: &str) -> Result<Conversation, Fault> {
    decode_carefully(json, json.as_bytes(), false)
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn any_json_around_a_good_message_leaves_it_whole(junk in ".{0,40}") {
        let reply = format!(r#"{{"chat_messages":[{},{{"id":42}}]}}"#, json!(junk));
        let read = decode(reply.as_bytes()).expect("a conversation");
        prop_assert_eq!(read.messages.len(), 1);
        prop_assert_eq!(read.faults.len(), 1);
    }

    #[test]
    fn a_broken_reply_never_panics(at in 0_usize..400, byte in any::<u8>()) {
        let reply = json!({
            "chat_messages": [{"id": 1, "created_at": "2021-01-01T00:00:00Z", "body": "a\u{0}😀", "sender_type": "user"}],
            "metadata": {"customer": {"id": 2, "display_name": "x", "avatar_url": ""}, "shoppers": []},
        });
        let mut bytes = reply.to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = decode(&bytes);
    }

    #[test]
    fn the_quick_decoder_agrees_with_the_careful_one(at in 0_usize..1_000, byte in any::<u8>(), ids in [0_i64..4, 0..4, 0..4]) {
        let mut reply = usual_reply(ids).into_bytes();
        let at = at % reply.len();
        reply[at] = byte;
        if let Some(read) = std::str::from_utf8(&reply).ok().and_then(quick::decode) {
            let carefully = carefully(std::str::from_utf8(&reply).expect("as before"));
            prop_assert_eq!(Ok(read), carefully);
        }
    }
}

#[test]
fn a_regular_reply_is_read_in_one_pass() {
    let reply = usual_reply([1, 3, 2]);
    assert_eq!(quick::decode(&reply), carefully(&reply).ok());
    for unusual in
        [usual_reply([1, 2, 1]), reply.replace("\"read\"", "\"id\""), reply.replace("[{", "[7,{"), reply + "x"]
    {
        assert_eq!(quick::decode(&unusual), None);
    }
}

#[test]
fn the_quick_decoder_takes_no_more_fields_than_the_careful_one() {
    for (others, is_read) in [(999, true), (1_000, false)] {
        let others = (0..others).map(|index| format!(r#","f{index}":0"#)).collect::<Vec<_>>().concat();
        let reply = format!(r#"{{"chat_messages":[]{others}}}"#);
        assert_eq!((quick::decode(&reply).is_some(), carefully(&reply).is_ok()), (is_read, is_read));
    }
}

#[test]
fn the_quick_decoder_reads_any_value_as_the_careful_one_or_not_at_all() {
    let long = format!("\"{}\"", "x".repeat(129));
    let values = [
        "null",
        "true",
        "1",
        "-0",
        "1.0",
        "1e2",
        "9223372036854775807",
        "9223372036854775808",
        "\"\"",
        "\"a\"",
        "\"user\"",
        r#""\u0000""#,
        r#""\ud83d""#,
        r#""\ud83d\ude00""#,
        "\"2021-01-01T00:00:00Z\"",
        "\"2021-01-01 00:00:00+0000\"",
        "\"2021-01-01T00:00:00\"",
        "\"true\"",
        "\"5\"",
        "5.0",
        "5.5",
        r#""2021-01-01T00:00:00\u005a""#,
        "{}",
        "[]",
        &long,
    ];
    let mut read_quickly = 0;
    for name in MESSAGE_FIELDS.iter().copied().chain(["new", r"i\u0064"]) {
        for (value, other) in values.iter().flat_map(|value| values.map(|other| (*value, other))) {
            let fields = format!(r#""id":7,"{name}":{value},"{name}":{other}"#);
            let without_id = fields.replace("\"id\":7,", "");
            for message in [fields, without_id] {
                let reply = format!(r#"{{"chat_messages":[{{{message}}}]}}"#);
                if let Some(read) = quick::decode(&reply) {
                    assert_eq!(Ok(read), carefully(&reply), "{reply}");
                    read_quickly += 1;
                }
            }
        }
    }
    assert!(read_quickly > 400, "only {read_quickly}");
}
