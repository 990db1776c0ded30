//! Connections that fail: refused, silent, truncated, closed too early, or redirected.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Queued, conversation, in_turn};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};

tests!(
    a_refused_connection_fails_the_order_for_now,
    a_silent_server_causes_a_timeout,
    a_reply_that_stalls_half_way_causes_a_timeout,
    a_truncated_reply_is_retried_then_fails,
    a_reply_truncated_once_is_retried_without_notice,
    a_server_that_closes_the_connection_after_every_reply_fails_no_order,
    a_redirect_is_not_followed,
);

/// A short timeout, so that tests are quick.
const IMPATIENT: (&str, &str) = ("api.timeout", "300ms");

async fn a_refused_connection_fails_the_order_for_now(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Bound, so that no other process gets the port, but not listening.
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    lab.enqueue(&["a"]).await?;
    let report = lab.sync(&format!("http://{}", socket.local_addr()?), &[]).await?;
    let order = Queued::row(&lab, "a").await?;
    order.expect_failed("connect", 1);
    assert!(order.error().to_lowercase().contains("refused"), "{order:?}");
    assert_eq!((report.run.status.as_str(), report.run.counters.failed), ("failed", 1));
    assert!(report.run.sent.requests > 1, "retried immediately");
    Ok(())
}

async fn a_silent_server_causes_a_timeout(lab: Arc<Lab>) -> anyhow::Result<()> {
    let url = bare_server(|mut stream| async move {
        read_request(&mut stream).await?;
        wait_for_the_end(&mut stream).await
    })
    .await;
    expect_broken(&lab, &url, &[IMPATIENT], "timeout").await
}

async fn a_reply_that_stalls_half_way_causes_a_timeout(lab: Arc<Lab>) -> anyhow::Result<()> {
    let url = bare_server(|mut stream| async move {
        read_request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"chat_messages\":").await?;
        wait_for_the_end(&mut stream).await
    })
    .await;
    expect_broken(&lab, &url, &[IMPATIENT], "timeout").await
}

async fn a_truncated_reply_is_retried_then_fails(lab: Arc<Lab>) -> anyhow::Result<()> {
    let url = bare_server(|mut stream| async move {
        read_request(&mut stream).await?;
        // The bytes sent are a valid reply by themselves; only the length shows that it is truncated.
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"chat_messages\":[]}").await
    })
    .await;
    expect_broken(&lab, &url, &[], "interrupted").await
}

async fn a_reply_truncated_once_is_retried_without_notice(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(|_| conversation()).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let good = recorder.url().trim_start_matches("http://").to_owned();
    let proxy = async {
        let (mut first, _) = listener.accept().await?;
        read_request(&mut first).await?;
        first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await?;
        drop(first);
        let (mut second, _) = listener.accept().await?;
        tokio::io::copy_bidirectional(&mut second, &mut TcpStream::connect(good).await?).await
    };
    lab.enqueue(&["a"]).await?;
    let report = tokio::select! {
        report = lab.sync(&url, &[]) => report?,
        ended = proxy => anyhow::bail!("the proxy ended first: {ended:?}"),
    };
    Queued::row(&lab, "a").await?.expect_read();
    assert_eq!((report.run.status.as_str(), report.run.sent.requests), ("succeeded", 2));
    Ok(())
}

async fn a_server_that_closes_the_connection_after_every_reply_fails_no_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    // It does not send `connection: close`: the next request may well go into the closed connection.
    let url = bare_server(|mut stream| async move {
        read_request(&mut stream).await?;
        let body = conversation().body;
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()).await?;
        stream.write_all(&body).await
    })
    .await;
    let ids: Vec<String> = (0..50).map(|number| format!("order-{number}")).collect();
    lab.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let report = lab.sync(&url, &[("pace.max_in_flight", "4")]).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 50));
    Ok(())
}

async fn a_redirect_is_not_followed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let elsewhere = Recorder::start(|_| conversation()).await;
    let target = elsewhere.url().replace("127.0.0.1", "localhost") + "/login?next=chat";
    for (status, failures) in [301, 302, 307, 308].into_iter().zip(1..) {
        let redirect = Answer::new(status, "").with_header("location", &target);
        let recorder = Recorder::start(in_turn(vec![redirect])).await;
        lab.enqueue(&["a"]).await?;
        lab.make_all_due().await?;
        lab.sync(recorder.url(), &[]).await?;
        let order = Queued::row(&lab, "a").await?;
        order.expect_failed("redirect", failures);
        assert!(order.error().contains("redirects to localhost"), "{order:?}");
        assert_eq!(recorder.asked().len(), 1, "{status}");
    }
    assert_eq!(elsewhere.asked().len(), 0, "a token never travels to another host");
    Ok(())
}

/// Asserts that a single order is tried a few times and then fails for now.
async fn expect_broken(lab: &Lab, url: &str, settings: &[(&str, &str)], kind: &str) -> anyhow::Result<()> {
    lab.enqueue(&["a"]).await?;
    let report = lab.sync(url, settings).await?;
    Queued::row(lab, "a").await?.expect_failed(kind, 1);
    assert!((2..10).contains(&report.run.sent.requests), "{}", report.run.sent.requests);
    assert_eq!((report.run.counters.failed, report.run.counters.fetched), (1, 0));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 0);
    Ok(())
}

/// Serves every connection with `serve`, which ends it by returning. Returns the server's URL.
pub(super) async fn bare_server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

/// Reads a request without a body.
pub(super) async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Sends nothing more until the client has gone.
async fn wait_for_the_end(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}
