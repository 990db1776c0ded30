//! Replies to mutate: the documented one, both formats of the API, texts and numbers that are hard to store.

use super::mutator::Mutator;

/// Returns a mutator of replies.
pub(crate) fn replies() -> Mutator {
    let corpus = [
        r#"{"chat_messages":[{"id":"9007199254740993","order_id":5.0,"created_at":"2021-01-01 00:00:00 +0000","sender_id":"2","sender_type":7,"read":"true","read_at":1609459200,"body":5,"image":{"url":"u"}}],"metadata":[],"is_expired":"false"}"#,
        r#"{"chat_messages":[{"id":123456789,"order_id":122233,"created_at":"2021-01-01T00:00:00Z","recipient_id":334354343,"recipient_type":"user","sender_id":55655345,"sender_type":"driver","read":false,"body":"MessageBody"}],"metadata":{"customer":{"id":2,"display_name":"John","avatar_url":""},"current_shopper":{"id":4,"display_name":"Robert","avatar_url":"https://images.example/r.jpg"},"shoppers":[{"id":55655345,"display_name":"A","avatar_url":"u"},{"id":4,"display_name":"Robert","avatar_url":"u"}]}}"#,
        r#"{"is_expired":true,"chat_messages":[],"metadata":{"is_expired":false}}"#,
        r#"{"chat_messages":[{"id":1,"body":"😀 \ud83d\ude00 \"q\" \\ \n","read":true,"read_at":"2021-01-01T00:00:00.5-08:00","image":"i"},{"id":2,"mood":{"b":[1,2.50,"x",null,true],"a":{}},"seen":null},{"id":2},{"id":3,"x":1e5,"y":123456789012345678901234567890}]}"#,
        r#"{"metadata":{"shoppers":[null,{"id":1},{}],"customer":{}},"other":[1,[2,[3]]]}"#,
    ];
    Mutator::new(
        corpus.iter().map(|text| text.as_bytes().to_vec()).collect(),
        PIECES.iter().map(|piece| piece.to_vec()).collect(),
    )
}

/// What is put into replies.
const PIECES: [&[u8]; 54] = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-1",
    b"1.0",
    b"1e308",
    b"\"5\"",
    b"\"true\"",
    b"\"2021-01-01T00:00:00\"",
    b"\"2021-01-01 00:00:00+0000\"",
    b"\"image\":{},",
    b"\xef\xbb\xbf",
    b"1e309",
    b"1e-999",
    b"0.10",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"\"\"",
    b"\"\\u0000\"",
    b"\"a\\ud83d\"",
    b"\"\\udead\\ud83d\\ude00\"",
    b"\\u0000",
    b"\\ud800",
    b"\\\\",
    b"\\\"",
    b"\"2021-12-31T23:59:60Z\"",
    b"\"9999-12-31T23:59:59-23:59\"",
    b"\"0000-01-01T00:00:00+23:59\"",
    b"\"2021-02-29T00:00:00Z\"",
    b"[]",
    b"{}",
    b"{\"id\":1}",
    b"{\"id\":2,\"body\":\"z\"},",
    b"\"id\":",
    b"\"id\":7,",
    b"\"read\":true,",
    b"\"body\":\"b\",",
    b"\"chat_messages\":",
    b"\"metadata\":{},",
    b"\"is_expired\":true,",
    b"\"shoppers\":",
    b"\"unknown\":",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\0",
    b" \t\r\n",
];
