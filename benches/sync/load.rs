//! The load generator of `limit_fetch`: sends the requests of chatsync, reads each reply to its end and discards it.
//!
//! A child process like the worker, so that both are measured in the same way.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::{ASK, ASK_END};
use crate::orders::order_id;

/// The requests to send.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Load {
    /// The mock server
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Number of orders, with indices from 0
    #[arg(long)]
    pub(crate) orders: u32,
    /// Requests in flight
    #[arg(long)]
    pub(crate) connections: u32,
}

/// The results, printed as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Bytes of all bodies.
    pub(crate) body_bytes: u64,
    /// Average time from the first byte of a request to the last of its reply.
    pub(crate) mean_latency_ms: f64,
}

#[derive(Default)]
struct Tally {
    next: Cell<u32>,
    body_bytes: Cell<u64>,
    time: Cell<Duration>,
}

/// Fetches all orders once.
pub(crate) fn generate(load: Load) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = Rc::new(Tally::default());
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let connections: Vec<_> =
            (0..load.connections).map(|_| tokio::task::spawn_local(fetch(load, Rc::clone(&tally)))).collect();
        for connection in connections {
            connection.await??;
        }
        anyhow::Ok(())
    })?;
    let mean_latency_ms = tally.time.get().as_secs_f64() * 1_000.0 / f64::from(load.orders.max(1));
    let loaded = Loaded { body_bytes: tally.body_bytes.get(), mean_latency_ms };
    println!("{}", serde_json::to_string(&loaded)?);
    Ok(())
}

/// Serves one connection: fetches the next order, until none is left.
async fn fetch(load: Load, tally: Rc<Tally>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let mut reply = Vec::with_capacity(16_384);
    loop {
        let index = tally.next.get();
        if index >= load.orders {
            return Ok(());
        }
        tally.next.set(index + 1);
        let start = Instant::now();
        stream.write_all(request(index, load.address).as_bytes()).await?;
        reply.clear();
        let body = loop {
            ensure!(stream.read_buf(&mut reply).await? > 0, "the server hung up");
            if let Some((head, body)) = split_head(&reply) {
                let length = length_of(head)?;
                if body.len() >= length {
                    break length;
                }
            }
        };
        tally.body_bytes.set(tally.body_bytes.get() + body as u64);
        tally.time.set(tally.time.get() + start.elapsed());
    }
}

/// Returns the bytes that chatsync sends.
fn request(index: u32, address: SocketAddr) -> String {
    format!(
        "{ASK}{}{ASK_END}x-treat-ids-as-internal: false\r\naccept-language: en-US\r\n\
         authorization: Bearer simulated-token\r\naccept: application/json\r\nuser-agent: chatsync/{}\r\n\
         accept-encoding: gzip, br\r\nhost: {address}\r\n\r\n",
        order_id(index),
        env!("CARGO_PKG_VERSION"),
    )
}

fn split_head(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((&reply[..end], &reply[end + 4..]))
}

fn length_of(head: &[u8]) -> anyhow::Result<usize> {
    let head = std::str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "not answered with 200: {head}");
    let length = head.rsplit_once("content-length:").context("a reply without a length")?.1;
    Ok(length.trim().parse()?)
}
