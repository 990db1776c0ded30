//! Secrets in files are replaced while the daemon runs.

use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;

use super::{EVERY_SECOND, start};
use crate::cli::write_file;
use crate::support::http::{Answer, Recorder};
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Lab, tests};
use crate::sync::{simulated, until};

tests!(
    a_rotated_token_needs_no_restart,
    a_rotated_client_secret_needs_no_restart,
    a_rotated_database_url_needs_no_restart,
);

async fn a_rotated_token_needs_no_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let token = write_file(&lab, "token", "\u{feff}first-token\n")?;
    let good = Arc::new(Mutex::new("Bearer first-token"));
    let is_good = Arc::clone(&good);
    let api = Recorder::start(move |asked| {
        let token = asked.header("authorization").unwrap_or_default();
        if token == *is_good.lock().expect("not poisoned") { simulated(asked) } else { Answer::new(401, "{}") }
    });
    let api = api.await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("auth.token", ""), ("auth.token_file", &token)])?;
    read_before_and_after(&lab, || {
        *good.lock().expect("not poisoned") = "Bearer second-token";
        write_file(&lab, "token", "\u{feff}second-token\r\n").map(drop)
    })
    .await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(!log.contains("-token"), "{log}");
    Ok(())
}

async fn a_rotated_client_secret_needs_no_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let secret = write_file(&lab, "secret", "first-secret")?;
    // The server refuses the client in either way. No token outlives an order.
    for (refusal, rotated) in [(Answer::new(401, "{}"), "second"), (invalid_client(), "third")] {
        let good = Arc::new(Mutex::new(std::fs::read_to_string(lab.home.path().join(&secret))?));
        let is_good = Arc::clone(&good);
        let api = Recorder::start(move |asked| {
            if !asked.is_token_request() {
                return simulated(asked);
            }
            let is_good = asked.json()["client_secret"] == **is_good.lock().expect("not poisoned");
            if is_good { Answer::token("a-token") } else { refusal.clone() }
        });
        let api = api.await;
        let mode = [("auth.mode", "user_assertion"), ("auth.client_id", "me"), ("auth.client_secret_file", &secret)];
        let daemon = start(&lab, api.url(), &[&mode[..], &[EVERY_SECOND]].concat())?;
        read_before_and_after(&lab, || {
            let new = format!("{rotated}-secret");
            new.clone_into(&mut good.lock().expect("not poisoned"));
            write_file(&lab, "secret", &new).map(drop)
        })
        .await?;
        daemon.send(Signal::SIGTERM)?;
        let log = daemon.ends_with(0).await?;
        assert!(!log.contains("-secret"), "{log}");
    }
    Ok(())
}

async fn a_rotated_database_url_needs_no_restart(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::start(lab.url())?;
    // Stands for a password: it is sent at log-in.
    let with_key = |key: &str| {
        let mut url = url::Url::parse(proxy.url())?;
        let others = url.query().unwrap_or_default();
        let query = format!("{others}&sslmode=disable&options=-c%20chatsync.key%3D{key}");
        url.set_query(Some(query.trim_start_matches('&')));
        anyhow::Ok(url.to_string())
    };
    let url = write_file(&lab, "url", with_key("first")?)?;
    let api = Recorder::start(simulated).await;
    let without = ("database.url", "");
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, without, ("database.url_file", &url)])?;
    read_before_and_after(&lab, || {
        write_file(&lab, "url", format!("{}\n", with_key("second")?))?;
        proxy.refuse_log_ins_with("chatsync.key=first");
        proxy.cut(Ending::Rst);
        Ok(())
    })
    .await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    Ok(())
}

/// Reads an order, rotates the secret, and reads another order.
async fn read_before_and_after(lab: &Lab, rotate: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = uuid::Uuid::new_v4().simple().to_string();
    let read = |order: String| async move {
        // Another user each time, so that each needs a new token.
        sqlx::query("INSERT INTO sync.order_queue (order_id, connect_user_id) VALUES ($1, $1)")
            .bind(&order)
            .execute(&lab.pool)
            .await?;
        until(lab, &format!("SELECT count(*) = 1 FROM chat.orders WHERE order_id = '{order}'")).await
    };
    read(format!("before-{name}")).await?;
    rotate()?;
    read(format!("after-{name}")).await
}

fn invalid_client() -> Answer {
    Answer::json(400, &serde_json::json!({"error": "invalid_client"}))
}
