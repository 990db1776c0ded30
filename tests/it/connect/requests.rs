//! The chat request itself: its headers, and the order id in its path.

use std::sync::Arc;

use chatsync::simulator;

use super::{Queued, conversation};
use crate::cli::write_file;
use crate::support::http::{Asked, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    a_chat_request_carries_the_documented_headers,
    optional_headers_are_sent_as_configured,
    an_empty_setting_sends_no_header,
    an_order_overrides_the_settings_of_its_headers,
    an_empty_override_sends_no_retailer,
    order_ids_travel_as_one_percent_encoded_segment,
    the_path_of_the_base_url_is_kept,
    unusual_order_ids_reach_the_simulated_api_unchanged,
);

async fn a_chat_request_carries_the_documented_headers(lab: Arc<Lab>) -> anyhow::Result<()> {
    let asked = ask(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('a')", &[]).await?.remove(0);
    assert_eq!(asked.method, "GET");
    assert_eq!(asked.target, "/v2/post_checkout/chat/a/messages");
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(asked.header("authorization"), Some("Bearer simulated-token"));
    assert_eq!(asked.header("accept-language"), Some("en-US"));
    assert_eq!(asked.header("x-treat-ids-as-internal"), Some("false"));
    assert_eq!(asked.header("user-agent"), Some(concat!("chatsync/", env!("CARGO_PKG_VERSION"))));
    let encodings = asked.header("accept-encoding").unwrap_or_default();
    assert!(encodings.contains("gzip") && encodings.contains("br"), "{encodings}");
    assert!(asked.body.is_empty());
    Ok(())
}

async fn optional_headers_are_sent_as_configured(lab: Arc<Lab>) -> anyhow::Result<()> {
    let settings =
        [("api.treat_ids_as_internal", "true"), ("api.retailer_id", "banner-7"), ("api.accept_language", "fr-CA")];
    let asked = ask(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('a')", &settings).await?.remove(0);
    assert_eq!(asked.header("x-treat-ids-as-internal"), Some("true"));
    assert_eq!(asked.header("x-retailer-id"), Some("banner-7"));
    assert_eq!(asked.header("accept-language"), Some("fr-CA"));
    Ok(())
}

async fn an_empty_setting_sends_no_header(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Set in a file: an empty variable counts as unset and would leave the default.
    let file = write_file(&lab, "empty.toml", "[api]\nretailer_id = ''\naccept_language = ''\n")?;
    lab.enqueue(&["a"]).await?;
    let recorder = Recorder::start(|_| conversation()).await;
    Finished::of(lab.configured(&["--config", &file, "sync"], recorder.url(), &[])).await?.expect_code(0);
    let asked = recorder.asked().remove(0);
    for absent in ["x-retailer-id", "accept-language"] {
        assert!(!asked.headers.contains_key(absent), "{absent}: {:?}", asked.header(absent));
    }
    Ok(())
}

async fn an_order_overrides_the_settings_of_its_headers(lab: Arc<Lab>) -> anyhow::Result<()> {
    let orders = "INSERT INTO sync.order_queue (order_id, ids_internal, retailer_id)
                  VALUES ('internal', true, 'banner-8'), ('own', false, 'banner-9'), ('plain', NULL, NULL)";
    for (setting, otherwise) in [("true", "false"), ("false", "true")] {
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        let settings = [("api.treat_ids_as_internal", setting), ("api.retailer_id", "banner-7")];
        let asked = ask(&lab, orders, &settings).await?;
        let sent = |order: &str| {
            let asked = asked.iter().find(|asked| asked.target.contains(order)).expect("asked for");
            (asked.header("x-treat-ids-as-internal"), asked.header("x-retailer-id"))
        };
        assert_eq!(sent("internal"), (Some("true"), Some("banner-8")), "not {otherwise}");
        assert_eq!(sent("own"), (Some("false"), Some("banner-9")), "not {otherwise}");
        assert_eq!(sent("plain"), (Some(setting), Some("banner-7")));
    }
    Ok(())
}

async fn an_empty_override_sends_no_retailer(lab: Arc<Lab>) -> anyhow::Result<()> {
    let orders = "INSERT INTO sync.order_queue (order_id, retailer_id) VALUES ('a', '')";
    let asked = ask(&lab, orders, &[("api.retailer_id", "banner-7")]).await?.remove(0);
    assert!(!asked.headers.contains_key("x-retailer-id"), "{:?}", asked.header("x-retailer-id"));
    Ok(())
}

async fn order_ids_travel_as_one_percent_encoded_segment(lab: Arc<Lab>) -> anyhow::Result<()> {
    // `+` stands for itself in a path; only in a query it means a space.
    let ids = [
        ("b7fab7ae-11fc-4453-98e1-a2f04b1c9d3e", "b7fab7ae-11fc-4453-98e1-a2f04b1c9d3e"),
        ("store/17/4", "store%2F17%2F4"),
        ("two words", "two%20words"),
        ("100%", "100%25"),
        ("promo%2F5", "promo%252F5"),
        ("%2e%2e", "%252e%252e"),
        ("who?me", "who%3Fme"),
        ("no#5", "no%235"),
        ("a+b", "a+b"),
        ("back\\slash", "back%5Cslash"),
        ("ñandú-注文", "%C3%B1and%C3%BA-%E6%B3%A8%E6%96%87"),
        ("...", "..."),
        (" ", "%20"),
        ("/", "%2F"),
    ];
    let recorder = Recorder::start(|_| conversation()).await;
    lab.enqueue(&ids.map(|(id, _)| id)).await?;
    lab.sync(recorder.url(), &[]).await?;
    let mut asked: Vec<_> = recorder.asked().into_iter().map(|asked| asked.target).collect();
    let mut expected = ids.map(|(_, segment)| format!("/v2/post_checkout/chat/{segment}/messages"));
    asked.sort();
    expected.sort();
    assert_eq!(asked, expected);
    for (id, _) in ids {
        Queued::row(&lab, id).await?.expect_read();
    }
    Ok(())
}

async fn the_path_of_the_base_url_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(|_| conversation()).await;
    for base in ["/partner/one", "/partner/one/"] {
        lab.enqueue(&["a"]).await?;
        lab.make_all_due().await?;
        lab.sync(&format!("{}{base}", recorder.url()), &[]).await?;
    }
    for asked in recorder.asked() {
        assert_eq!(asked.target, "/partner/one/v2/post_checkout/chat/a/messages");
    }
    assert_eq!(recorder.asked().len(), 2);
    Ok(())
}

async fn unusual_order_ids_reach_the_simulated_api_unchanged(lab: Arc<Lab>) -> anyhow::Result<()> {
    // With tokens per user a wrongly encoded id belongs to another user and is not found.
    let options = simulator::Options {
        orders: 600,
        users: 50,
        not_found_share: 0.0,
        expired_share: 0.0,
        ..simulator::Options::default()
    };
    let (mut ids, mut users) = (Vec::new(), Vec::new());
    for order in simulator::orders(&options) {
        ids.push(order.order_id);
        users.push(order.connect_user_id);
    }
    assert!(ids.iter().any(|id| id.contains('/')) && ids.iter().any(|id| !id.is_ascii()), "the list has odd ids");
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, connect_user_id) SELECT * FROM unnest($1::text[], $2::text[])",
    )
    .bind(&ids)
    .bind(&users)
    .execute(&lab.pool)
    .await?;
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options).await?;
    let auth = [
        ("auth.mode", "user_assertion"),
        ("auth.client_id", simulator::CLIENT_ID),
        ("auth.client_secret", simulator::CLIENT_SECRET),
    ];
    let report = lab.sync(&api.base_url(), &auth).await?;
    assert_eq!(
        (report.run.status.as_str(), report.run.counters.fetched, report.run.counters.closed),
        ("succeeded", 600, 0)
    );
    assert_eq!(api.stats().unauthorized, 0);
    api.stop().await;
    Ok(())
}

/// Returns the requests of a run over the orders that `insert` adds.
async fn ask(lab: &Lab, insert: &'static str, settings: &[(&str, &str)]) -> anyhow::Result<Vec<Asked>> {
    sqlx::query(insert).execute(&lab.pool).await?;
    let recorder = Recorder::start(|_| conversation()).await;
    let report = lab.sync(recorder.url(), settings).await?;
    assert_eq!(report.run.status.as_str(), "succeeded");
    Ok(recorder.asked())
}
