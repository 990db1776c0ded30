//! A mock of the Connect API that takes as little processor time as possible: hand-written HTTP/1.1, one read and one
//! write per request, one thread.
//!
//! It runs as a child process, so that its processor time is measured separately. The parent controls it through
//! standard input, and it ends when that is closed.

mod phrases;
mod reply;

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::reply::Replies;
use crate::orders;
use crate::processor;

/// The beginning of a request; the order's id follows.
pub(crate) const ASK: &str = "GET /v2/post_checkout/chat/";
/// What follows the order's id.
pub(crate) const ASK_END: &str = "/messages HTTP/1.1\r\n";

const ID_LENGTH: usize = 36;
const END: &[u8] = b"\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

struct Api {
    replies: Replies,
    is_changed: AtomicBool,
    latency_ms: AtomicU64,
    answered: AtomicU64,
}

/// Serves until standard input ends. Prints its address first.
pub(crate) fn serve() -> anyhow::Result<()> {
    let api = Arc::new(Api {
        replies: Replies::new(chrono::Utc::now()),
        is_changed: AtomicBool::new(false),
        latency_ms: AtomicU64::new(0),
        answered: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let commanded = Arc::clone(&api);
        std::thread::spawn(move || {
            if let Err(error) = obey(&commanded) {
                eprintln!("mock server: {error:#}");
            }
            std::process::exit(0);
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A closed connection is no error of the server.
            tokio::spawn(answer(stream, Arc::clone(&api)));
        }
    })
}

/// Executes the command on each line, and replies with a line.
fn obey(api: &Api) -> anyhow::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "changed" => api.is_changed.store(argument.parse()?, Relaxed),
            "latency" => api.latency_ms.store(argument.parse()?, Relaxed),
            "usage" => {}
            other => anyhow::bail!("there is no command {other}"),
        }
        let micros = processor::own()?.as_micros();
        println!("{micros} {}", api.answered.load(Relaxed));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Serves one connection. Clients send a request after the previous reply, so whatever ends with an empty line is one
/// request.
async fn answer(mut stream: TcpStream, api: Arc<Api>) -> anyhow::Result<()> {
    let mut request = Vec::with_capacity(2_048);
    let mut reply = Vec::with_capacity(8_192);
    loop {
        request.clear();
        while !request.ends_with(END) {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let came = Instant::now();
        match index_asked_for(&request) {
            Some(index) => api.replies.write(index, api.is_changed.load(Relaxed), &mut reply),
            None => NOT_FOUND.clone_into(&mut reply),
        }
        let latency = api.latency_ms.load(Relaxed);
        if latency > 0 {
            // The timer counts whole milliseconds and fires after the next: with one less, the client sees the right
            // latency.
            tokio::time::sleep_until((came + Duration::from_millis(latency - 1)).into()).await;
        }
        stream.write_all(&reply).await.context("the client has gone")?;
        api.answered.fetch_add(1, Relaxed);
    }
}

fn index_asked_for(request: &[u8]) -> Option<u32> {
    let (id, rest) = request.strip_prefix(ASK.as_bytes())?.split_at_checked(ID_LENGTH)?;
    rest.starts_with(ASK_END.as_bytes()).then(|| orders::index_of(id))?
}
