//! A pooler without prepared statements that refuses start-up options: all clients share one session of the server,
//! transaction by transaction, with the statements of each other.

use std::net::Ipv4Addr;
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::proxy::{Stream, Upstream, hang_up, startup, through};

/// A running pooler; stops when dropped.
pub(crate) struct Pooler {
    url: String,
    server: JoinHandle<()>,
}

/// The `pool_mode` of a pooler.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Transaction,
    Statement,
}

struct Session {
    stream: Box<dyn Stream>,
    /// Replies to the log-in of the first client; the others get the same.
    greeting: Vec<u8>,
}

impl Pooler {
    pub(crate) async fn start(database_url: &str, mode: Mode) -> anyhow::Result<Self> {
        let stream = Upstream::of(&PgConnectOptions::from_str(database_url)?).connect().await?;
        let session = Arc::new(Mutex::new(Session { stream, greeting: Vec::new() }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = through(database_url, listener.local_addr()?)?;
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&session), mode));
            }
        });
        Ok(Self { url, server })
    }

    /// The database behind the pooler. May contain a password: not for logs.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves one client until it leaves.
async fn serve(mut client: TcpStream, session: Arc<Mutex<Session>>, mode: Mode) -> io::Result<()> {
    let hello = startup(&mut client).await?;
    if hello.windows(9).any(|name| name == b"\0options\0") {
        return hang_up(client, "08P01", "unsupported startup parameter: options").await;
    }
    session.lock().await.greet(&mut client, &hello).await?;
    loop {
        let (mut kind, mut message) = read(&mut client).await?;
        if kind == b'X' {
            return Ok(());
        }
        if mode == Mode::Statement && kind == b'Q' && message[5..].windows(5).any(|word| word == b"BEGIN") {
            return hang_up(client, "08P01", "transaction blocks not allowed in statement pooling mode").await;
        }
        let mut session = session.lock().await;
        loop {
            session.stream.write_all(&message).await?;
            session.stream.flush().await?;
            if matches!(kind, b'S' | b'Q') {
                let reply = session.reply().await?;
                client.write_all(&reply).await?;
                // No transaction is open: next client.
                if reply.ends_with(b"I") {
                    break;
                }
            }
            (kind, message) = read(&mut client).await?;
        }
    }
}

impl Session {
    /// Logs in for the first client.
    async fn greet(&mut self, client: &mut TcpStream, hello: &[u8]) -> io::Result<()> {
        const AUTHENTICATION_OK: &[u8] = &[b'R', 0, 0, 0, 8, 0, 0, 0, 0];
        if self.greeting.is_empty() {
            self.stream.write_all(hello).await?;
            loop {
                let (_, message) = read(&mut self.stream).await?;
                if message == AUTHENTICATION_OK {
                    break;
                }
                client.write_all(&message).await?;
                // The server ends an exchange.
                if message[5..9] != [0, 0, 0, 12] {
                    let (_, answer) = read(client).await?;
                    self.stream.write_all(&answer).await?;
                }
            }
            self.greeting = [AUTHENTICATION_OK, &self.reply().await?].concat();
        }
        client.write_all(&self.greeting).await
    }

    /// Reads up to `ReadyForQuery`.
    async fn reply(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        loop {
            let (kind, message) = read(&mut self.stream).await?;
            reply.extend(message);
            if kind == b'Z' {
                return Ok(reply);
            }
        }
    }
}

/// Reads the next message and its kind.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut message = vec![kind];
    message.extend(length.to_be_bytes());
    message.resize(length as usize + 1, 0);
    from.read_exact(&mut message[5..]).await?;
    Ok((kind, message))
}
