//! HTTP/2 over TLS, where one connection carries many requests.

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;

use super::conversation;
use crate::cli::write_file;
use crate::support::{Finished, Lab, tests};

tests!(a_connection_that_falls_silent_is_replaced);

async fn a_connection_that_falls_silent_is_replaced(lab: Arc<Lab>) -> anyhow::Result<()> {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let trusted = write_file(&lab, "ca.pem", certificate.cert.pem())?;
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.cert.into()], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let url = server(tls).await?;

    let orders: Vec<String> = (0..8).map(|number| format!("order-{number}")).collect();
    lab.enqueue(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    // Far longer than the test may take.
    let mut sync = lab.configured(&["sync"], &url, &[("api.timeout", "10m")]);
    sync.env("SSL_CERT_FILE", trusted);
    let start = Instant::now();
    Finished::of(sync).await?.expect_code(0);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE status = 'open'").await?, 8);
    assert!(lab.count("SELECT requests FROM sync.runs").await? > 8, "some were requested again");
    Ok(())
}

/// Starts a server that falls silent on the connection of the first request. Returns its URL.
async fn server(tls: ServerConfig) -> anyhow::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("https://localhost:{}", listener.local_addr()?.port());
    let (tls, was_silent) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(AtomicBool::new(false)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, tls.clone(), Arc::clone(&was_silent)));
        }
    });
    Ok(url)
}

/// Serves one connection. Forwards nothing more once it is to be silent.
async fn serve(mut client: TcpStream, tls: TlsAcceptor, was_silent: Arc<AtomicBool>) -> anyhow::Result<()> {
    let silence = CancellationToken::new();
    let be_silent = silence.clone();
    let router = Router::new().fallback(async move |request: Request<Body>| {
        assert_eq!(request.version(), Version::HTTP_2);
        if !was_silent.swap(true, Ordering::SeqCst) {
            be_silent.cancel();
        }
        // The other requests of that connection get no answer either.
        be_silent.run_until_cancelled(async { conversation().body }).await.unwrap_or_default()
    });
    let (mut outside, inside) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let stream = TokioIo::new(tls.accept(inside).await?);
        let service = TowerToHyperService::new(router);
        let served = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
        served.map_err(anyhow::Error::msg)
    });
    tokio::select! {
        biased;
        // The client's end stays open: nothing closes it.
        () = silence.cancelled() => pending().await,
        ended = tokio::io::copy_bidirectional(&mut client, &mut outside) => Ok(ended.map(drop)?),
    }
}
