//! Tests what a client gets when a fault occurs.

use std::io::Read as _;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::super::{Options, ReplyAge, STATIC_TOKEN, reply};
use super::scene::{Scene, grant, refused, send};

/// Starts a simulator with faults.
async fn scene(faults: &[&str]) -> Scene {
    let faults = faults.iter().map(|text| text.parse().unwrap()).collect();
    Scene::new(Options { faults, ..Options::default() }).await
}

/// Returns status, relevant header and body for a readable order.
async fn answer(fault: &str) -> (u16, Option<String>, Vec<u8>) {
    let scene = scene(&[fault]).await;
    let response = scene.chat(&scene.readable().order_id, STATIC_TOKEN).send().await.unwrap();
    let status = response.status().as_u16();
    let header = ["location", "retry-after", "content-type"].iter().find_map(|name| response.headers().get(*name));
    let header = header.map(|value| value.to_str().unwrap().to_owned());
    let body = response.bytes().await.unwrap().to_vec();
    assert_eq!(scene.running.struck(), [(fault.to_owned(), 1)]);
    scene.running.stop().await;
    (status, header, body)
}

#[tokio::test]
async fn statuses_come_with_their_bodies_and_headers() {
    for (fault, status, code, header) in [
        ("status:500", 500, 1000, "application/json"),
        ("status:403", 403, 1000, "application/json"),
        ("status:422", 422, 1000, "application/json"),
        ("status:404", 404, 4000, "application/json"),
        ("unavailable", 503, 1000, "application/json"),
        ("unavailable:31536000", 503, 1000, "31536000"),
        ("throttle", 429, 1000, "application/json"),
        ("throttle:0", 429, 1000, "0"),
    ] {
        let (got, value, body) = answer(fault).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((got, value.as_deref(), &body["error"]["code"]), (status, Some(header), &json!(code)), "{fault}");
    }
    let (status, _, body) = answer("page-not-found").await;
    assert!(status == 404 && body.starts_with(b"<html>"));
    let passing = answer("errors").await.0;
    assert!([500, 503, 408].contains(&passing), "{passing}");
}

#[tokio::test]
async fn corrupted_replies_are_corrupted_as_documented() {
    let garbled = answer("garbled").await;
    assert!(garbled.0 == 200 && serde_json::from_slice::<Value>(&garbled.2).is_err());
    let (status, _, body) = answer("not-utf8").await;
    assert!(status == 200 && std::str::from_utf8(&body).is_err());
    let body: Value = serde_json::from_slice(&answer("other-shape").await.2).unwrap();
    assert!(body.is_object() && body["chat_messages"].is_null());
    let (status, kind, body) = answer("page").await;
    assert!(status == 200 && kind.unwrap().starts_with("text/html") && body.starts_with(b"<!DOCTYPE"));
    let (_, kind, body) = answer("wrong-type").await;
    assert!(kind.unwrap().starts_with("text/html"));
    assert!(serde_json::from_slice::<Value>(&body).unwrap()["chat_messages"].is_array());
    assert!(answer("huge:3").await.2.len() > 3 << 20);
    let bomb = answer("bomb:5").await.2;
    let mut swollen = Vec::new();
    flate2::read::GzDecoder::new(&*bomb).read_to_end(&mut swollen).unwrap();
    assert!(bomb.len() < 1 << 20 && swollen.len() > 5 << 20);
}

#[tokio::test]
async fn a_redirect_names_the_other_host() {
    let scene = scene(&["redirect:http://elsewhere.invalid/x"]).await;
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response = client.get(scene.running.base_url()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], "http://elsewhere.invalid/x");
    scene.running.stop().await;
}

#[tokio::test]
async fn a_cut_connection_ends_without_a_reply_and_the_next_one_is_served() {
    let scene = scene(&["cut"]).await;
    let id = scene.readable().order_id;
    let error = scene.chat(&id, STATIC_TOKEN).send().await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
    assert_eq!(scene.running.stats().chat_requests, 1);
    scene.running.set_faults([]);
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.0, StatusCode::OK);
    scene.running.stop().await;
}

#[tokio::test]
async fn a_connection_cut_in_the_body_promised_more_than_it_sent() {
    let scene = scene(&["cut-body"]).await;
    let id = scene.readable().order_id;
    let mut response = scene.chat(&id, STATIC_TOKEN).send().await.unwrap();
    let whole = reply(&scene.options, &id, false).unwrap();
    assert_eq!((response.status(), response.content_length()), (StatusCode::OK, Some(whole.len() as u64)));
    let mut got = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(chunk) => got.extend(chunk.expect("an error before the end")),
            Err(error) => break error,
        }
    };
    assert!(!error.is_timeout() && got == whole[..whole.len() / 2], "{error:?} after {} bytes", got.len());
    scene.running.stop().await;
}

#[tokio::test]
async fn a_stalled_connection_says_nothing_until_the_simulator_stops() {
    for (fault, sent) in [("stall", false), ("stall-body", true)] {
        let scene = scene(&[fault]).await;
        let request = tokio::spawn(scene.chat(&scene.readable().order_id, STATIC_TOKEN).send());
        while scene.running.struck()[0].1 == 0 {
            tokio::task::yield_now().await;
        }
        if sent {
            let mut response = request.await.unwrap().unwrap();
            assert!(response.chunk().await.unwrap().is_some());
            let rest = tokio::spawn(async move { response.chunk().await });
            scene.running.stop().await;
            assert!(rest.await.unwrap().is_err());
        } else {
            scene.running.stop().await;
            assert!(request.await.unwrap().is_err());
        }
    }
}

#[tokio::test]
async fn an_unauthorized_token_is_invalid_before_it_expires() {
    let scene = scene(&[]).await;
    let id = scene.readable().order_id;
    let [struck, other] = [scene.token(None).await, scene.token(None).await];
    scene.running.set_faults(["unauthorized".parse().unwrap()]);
    assert_eq!(refused(scene.chat(&id, &struck)).await.0, 401);
    scene.running.set_faults([]);
    assert_eq!(refused(scene.chat(&id, &struck)).await.0, 401);
    assert_eq!(send(scene.chat(&id, &other)).await.0, StatusCode::OK);
    assert_eq!(scene.running.stats().unauthorized, 2);
    scene.running.stop().await;
}

#[tokio::test]
async fn the_token_endpoint_fails_alone() {
    for (fault, status) in [("token.status:401", 401), ("token.status:500", 500), ("token.other-shape", 200)] {
        let scene = scene(&[fault]).await;
        let (got, body) = send(scene.oauth("token", &grant(None))).await;
        assert!(got == status && body["access_token"].is_null(), "{fault}: {got} {body}");
        assert_eq!(send(scene.chat(&scene.readable().order_id, STATIC_TOKEN)).await.0, StatusCode::OK);
        scene.running.stop().await;
    }
}

#[tokio::test]
async fn everything_can_be_expired_in_both_ages_of_the_reply() {
    for reply_age in [ReplyAge::New, ReplyAge::Old] {
        let scene =
            Scene::new(Options { faults: vec!["expired".parse().unwrap()], reply_age, ..Options::default() }).await;
        let (status, body) = send(scene.chat(&scene.readable().order_id, STATIC_TOKEN)).await;
        let expired = body["is_expired"].as_bool().or(body["metadata"]["is_expired"].as_bool());
        assert_eq!(expired, (reply_age == ReplyAge::New).then_some(true));
        assert_eq!((status, &body["chat_messages"]), (StatusCode::OK, &json!([])));
        scene.running.stop().await;
    }
}
