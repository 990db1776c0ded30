//! Replies with status 200: unreadable, partly readable, too large, compressed.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::transport::{bare_server, read_request};
use super::{Queued, conversation, conversation_json, in_turn};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};

tests!(
    a_reply_that_is_not_json_is_kept_and_fetched_again,
    one_bad_message_does_not_affect_the_others,
    a_run_that_could_store_none_of_its_messages_is_partial,
    an_empty_reply_is_fetched_again_and_makes_no_order_dead,
    a_byte_order_mark_is_skipped,
    compressed_replies_are_read,
    a_body_that_does_not_match_its_encoding_is_kept_as_it_came,
    plain_json_under_a_header_of_compression_is_read,
    a_truncated_compressed_reply_is_fetched_again,
    a_large_compressed_reply_is_read_at_its_turn,
    a_reply_above_the_cap_is_rejected,
    a_small_reply_that_expands_is_cut_at_the_cap,
    an_endless_reply_is_not_read_to_its_end,
);

/// The smallest cap that the settings allow, in bytes.
const SMALL_CAP: (&str, &str) = ("api.max_response_bytes", "1024");

/// Far more than a cap of [`SMALL_CAP`] plus one read.
const UNBOUNDED: i64 = 1_048_576;

async fn a_reply_that_is_not_json_is_kept_and_fetched_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    let page = b"<html>caf\xe9 \0 maintenance</html>".to_vec();
    let recorder = Recorder::start(in_turn(vec![Answer::new(200, page), conversation()])).await;
    lab.enqueue(&["a"]).await?;
    let report = lab.sync(recorder.url(), &[]).await?;
    let order = Queued::row(&lab, "a").await?;
    order.expect_failed("not_understood", 1);
    assert!(!order.error().contains("maintenance"), "the reply itself may be chat text: {order:?}");
    assert_eq!((report.run.counters.failed, recorder.asked().len()), (1, 1));
    let reject = lab.text("SELECT concat_ws('|', order_id, http_status, kind, json_path, body) FROM sync.rejects");
    assert_eq!(reject.await?.as_deref(), Some("a|200|not_understood|$|<html>caf\\xe9 \\x00 maintenance</html>"));

    lab.make_all_due().await?;
    lab.sync(recorder.url(), &[]).await?;
    Queued::row(&lab, "a").await?.expect_read();
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 1, "kept for inspection");
    Ok(())
}

async fn one_bad_message_does_not_affect_the_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    let message = |id: serde_json::Value| json!({"id": id, "created_at": "2026-01-02T03:04:05Z", "sender_id": 5, "sender_type": "driver", "body": "hi"});
    let mut reply = conversation_json();
    reply["chat_messages"] = json!([message(json!(1)), message(json!("second")), message(json!(3))]);
    let recorder = Recorder::start(in_turn(vec![Answer::json(200, &reply)])).await;
    lab.enqueue(&["a"]).await?;
    let report = lab.sync(recorder.url(), &[]).await?;
    let run = &report.run;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.failed, run.counters.messages_inserted),
        ("succeeded", 1, 0, 2)
    );
    let stored = lab.text("SELECT string_agg(message_id::text, ',' ORDER BY position) FROM chat.messages").await?;
    assert_eq!(stored.as_deref(), Some("1,3"));
    let order = Queued::row(&lab, "a").await?;
    assert_eq!((order.state.as_str(), order.failures, order.kind()), ("open", 0, "partly_understood"));
    let reject = lab.text("SELECT concat_ws('|', http_status, kind, json_path, body::jsonb->>'id') FROM sync.rejects");
    assert_eq!(reject.await?.as_deref(), Some("200|partly_understood|$.chat_messages[1].id|second"));
    Ok(())
}

async fn a_run_that_could_store_none_of_its_messages_is_partial(lab: Arc<Lab>) -> anyhow::Result<()> {
    let nameless = json!({"chat_messages": [{"body": "no id"}, {"id": [1], "body": "no id"}], "is_expired": false});
    let silent = json!({"chat_messages": [], "is_expired": false});
    let recorder = Recorder::start(move |asked| match &asked.target {
        target if target.contains("/nameless/") => Answer::json(200, &nameless),
        target if target.contains("/silent/") => Answer::json(200, &silent),
        _ => conversation(),
    })
    .await;
    lab.enqueue(&["nameless", "silent"]).await?;
    // The second run inserts nothing and is as bad.
    for unchanged in [0, 2] {
        lab.make_all_due().await?;
        let run = lab.sync(recorder.url(), &[]).await?.run;
        assert_eq!(
            (run.status.as_str(), run.counters.fetched, run.counters.unchanged, run.counters.failed),
            ("partial", 2, unchanged, 0)
        );
        assert_eq!((run.counters.messages_inserted, run.counters.messages_left_out), (0, 2));
    }
    let order = "SELECT concat_ws(' ', o.coverage, o.messages_left_out, q.last_fetched_at, q.last_error_kind)
                 FROM chat.orders AS o JOIN sync.order_queue AS q USING (order_id) WHERE order_id = 'nameless'";
    assert_eq!(lab.text(order).await?.as_deref(), Some("captured_open 2 partly_understood"));
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 2);

    // One stored message is enough, also one stored earlier.
    lab.enqueue(&["good"]).await?;
    for inserted in [1, 0] {
        lab.make_all_due().await?;
        let run = lab.sync(recorder.url(), &[]).await?.run;
        assert_eq!((run.status.as_str(), run.counters.messages_inserted), ("succeeded", inserted));
        assert_eq!(run.counters.messages_left_out, 2);
    }
    Ok(())
}

async fn an_empty_reply_is_fetched_again_and_makes_no_order_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    let cases =
        [(200, ""), (200, " \n"), (200, "null"), (200, "{}"), (202, ""), (204, ""), (206, "{\"chat"), (304, "")];
    for (status, body) in cases {
        sqlx::query("TRUNCATE sync.order_queue, sync.rejects, chat.orders, chat.messages").execute(&lab.pool).await?;
        let answer = Answer::new(status, body);
        let recorder = Recorder::start(in_turn(vec![answer.clone(), answer.clone(), answer, conversation()])).await;
        lab.enqueue(&["a"]).await?;
        for failures in 1..=3 {
            lab.make_all_due().await?;
            let run = lab.sync(recorder.url(), &[("queue.max_failures", "2")]).await?.run;
            let order = Queued::row(&lab, "a").await?;
            order.expect_failed("empty_reply", failures);
            assert!(order.error().contains(&format!("{status} without a conversation")), "{order:?}");
            assert_eq!((run.counters.failed, run.sent.requests), (1, 1), "{status} {body}");
        }
        let kept = if body.len() > 4 { 3 } else { 0 };
        assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, kept, "{status} {body}");
        lab.make_all_due().await?;
        lab.sync(recorder.url(), &[]).await?;
        Queued::row(&lab, "a").await?.expect_read();
    }
    Ok(())
}

async fn a_byte_order_mark_is_skipped(lab: Arc<Lab>) -> anyhow::Result<()> {
    let body = [b"\xef\xbb\xbf".as_slice(), &conversation().body].concat();
    let recorder = Recorder::start(in_turn(vec![Answer::new(200, body)])).await;
    lab.enqueue(&["a"]).await?;
    assert_eq!(lab.sync(recorder.url(), &[]).await?.run.counters.messages_inserted, 1);
    Queued::row(&lab, "a").await?.expect_read();
    Ok(())
}

async fn compressed_replies_are_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plain = conversation().body;
    let recorder = Recorder::start(move |asked| {
        if asked.target.contains("/gzip/") {
            return Answer::new(200, gzip(&plain)).with_header("content-encoding", "gzip");
        }
        Answer::new(200, brotli(&plain)).with_header("content-encoding", "br")
    })
    .await;
    lab.enqueue(&["gzip", "brotli"]).await?;
    let report = lab.sync(recorder.url(), &[]).await?;
    assert_eq!((report.run.counters.fetched, report.run.counters.messages_inserted), (2, 2));
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages WHERE body = 'on my way'").await?, 2);
    Ok(())
}

async fn a_body_that_does_not_match_its_encoding_is_kept_as_it_came(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plain = conversation().body;
    let whole = gzip(&plain);
    let mut spoilt = whole.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 0xff;
    let page = b"<html>caf\xe9 maintenance</html>".to_vec();
    let cut = whole[..whole.len() - 9].to_vec();
    let mut cases = vec![("rot13", page.clone()), ("deflate", zlib(&plain)), ("gzip, br", gzip(&brotli(&plain)))];
    for encoding in ["gzip", "x-gzip", "GZIP", "br"] {
        cases.extend([(encoding, page.clone()), (encoding, cut.clone()), (encoding, spoilt.clone())]);
    }
    cases.push(("gzip", brotli(&plain)));
    cases.push(("br", whole));
    cases.push(("zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0]));
    for ((encoding, body), failures) in cases.into_iter().zip(1..) {
        sqlx::query("TRUNCATE sync.rejects").execute(&lab.pool).await?;
        let answer = Answer::new(200, body.clone()).with_header("content-encoding", encoding);
        let recorder = Recorder::start(in_turn(vec![answer])).await;
        lab.enqueue(&["a"]).await?;
        lab.make_all_due().await?;
        let report = lab.sync(recorder.url(), &[("queue.max_failures", "100")]).await?;
        let order = Queued::row(&lab, "a").await?;
        order.expect_failed("not_understood", failures);
        assert!(order.error().contains("do not match the Content-Encoding"), "{encoding}: {order:?}");
        assert_eq!((report.run.counters.failed, recorder.asked().len()), (1, 1), "{encoding}");
        let kept = "SELECT concat_ws('|', http_status, kind, json_path, body_bytes, body) FROM sync.rejects";
        let expected =
            format!("200|not_understood|$|{}|{}", body.len(), chatsync::domain::Fault::new("", "", &body).body());
        assert_eq!(lab.text(kept).await?, Some(expected), "{encoding}");
    }
    Ok(())
}

async fn plain_json_under_a_header_of_compression_is_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    for encoding in ["gzip", "br", "rot13", "deflate", "gzip, br", "utf-8", "identity", "none"] {
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        let recorder = Recorder::start(in_turn(vec![conversation().with_header("content-encoding", encoding)])).await;
        lab.enqueue(&["a"]).await?;
        lab.sync(recorder.url(), &[]).await?;
        Queued::row(&lab, "a").await?.expect_read();
    }
    Ok(())
}

async fn a_truncated_compressed_reply_is_fetched_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    let url = bare_server(|mut stream| async move {
        read_request(&mut stream).await?;
        let body = gzip(&conversation().body);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body[..body.len() / 2]).await
    })
    .await;
    lab.enqueue(&["a"]).await?;
    let report = lab.sync(&url, &[]).await?;
    Queued::row(&lab, "a").await?.expect_failed("interrupted", 1);
    assert!(report.run.sent.requests > 1, "tried again at once");
    Ok(())
}

async fn a_large_compressed_reply_is_read_at_its_turn(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut large = conversation_json();
    large["padding"] = "x".repeat(1_048_576).into();
    let plain = large.to_string().into_bytes();
    let recorder = Recorder::start(move |asked| {
        let (body, encoding) =
            if asked.target.contains("/gzip-") { (gzip(&plain), "gzip") } else { (brotli(&plain), "br") };
        Answer::new(200, body).with_header("content-encoding", encoding)
    })
    .await;
    lab.enqueue(&["gzip-1", "gzip-2", "brotli-1", "brotli-2"]).await?;
    let report = lab.sync(recorder.url(), &[]).await?;
    assert_eq!(
        (report.run.counters.fetched, report.run.sent.requests),
        (4, 8),
        "each is requested once more at its turn"
    );
    Ok(())
}

async fn a_reply_above_the_cap_is_rejected(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut large = conversation_json();
    large["padding"] = "x".repeat(1_100).into();
    let mut fitting = conversation_json();
    let free = 1_024 - fitting.to_string().len() - r#","padding":"""#.len();
    fitting["padding"] = "x".repeat(free).into();
    assert_eq!(fitting.to_string().len(), 1_024);
    let recorder = Recorder::start(move |asked| {
        Answer::json(200, if asked.target.contains("/large/") { &large } else { &fitting })
    })
    .await;
    lab.enqueue(&["large", "fitting"]).await?;
    let report = lab.sync(recorder.url(), &[SMALL_CAP]).await?;
    assert_eq!((report.run.counters.fetched, report.run.counters.failed), (1, 1));
    Queued::row(&lab, "fitting").await?.expect_read();
    expect_cut(&lab, "large").await
}

async fn a_small_reply_that_expands_is_cut_at_the_cap(lab: Arc<Lab>) -> anyhow::Result<()> {
    let swollen = vec![b' '; 16 * 1_048_576];
    let bombs = [("gzip", gzip(&swollen)), ("br", brotli(&swollen))];
    for (encoding, bomb) in bombs {
        assert!(bomb.len() < 100_000, "{encoding}: {}", bomb.len());
        let bomb = Answer::new(200, bomb).with_header("content-encoding", encoding);
        let recorder = Recorder::start(in_turn(vec![bomb])).await;
        lab.enqueue(&[encoding]).await?;
        lab.sync(recorder.url(), &[SMALL_CAP]).await?;
        expect_cut(&lab, encoding).await?;
        assert_eq!(recorder.asked().len(), 1, "{encoding}");
    }
    Ok(())
}

async fn an_endless_reply_is_not_read_to_its_end(lab: Arc<Lab>) -> anyhow::Result<()> {
    let url = bare_server(|mut stream| async move {
        read_request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await?;
        loop {
            // Fails once the client has gone.
            stream.write_all(&[b' '; 8_192]).await?;
        }
    })
    .await;
    lab.enqueue(&["a"]).await?;
    lab.sync(&url, &[SMALL_CAP]).await?;
    expect_cut(&lab, "a").await
}

/// Asserts that the reply was not read far beyond the cap, and that its beginning is kept.
async fn expect_cut(lab: &Lab, order_id: &str) -> anyhow::Result<()> {
    let order = Queued::row(lab, order_id).await?;
    order.expect_failed("not_understood", 1);
    assert!(order.error().contains("api.max_response_bytes"), "{order:?}");
    let query = "SELECT body_bytes, octet_length(body)::bigint, json_path FROM sync.rejects WHERE order_id = $1";
    let (bytes, kept, path): (i64, i64, String) = sqlx::query_as(query).bind(order_id).fetch_one(&lab.pool).await?;
    assert!((1_025..UNBOUNDED).contains(&bytes), "{bytes} bytes read");
    assert!((1_025..=65_536).contains(&kept), "{kept} bytes kept");
    assert_eq!(path, "$");
    Ok(())
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("into memory");
    encoder.finish().expect("into memory")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("into memory");
    encoder.finish().expect("into memory")
}

fn brotli(plain: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    brotli::CompressorWriter::new(&mut compressed, 4_096, 1, 22).write_all(plain).expect("into memory");
    compressed
}
