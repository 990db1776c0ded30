//! A TCP proxy in front of PostgreSQL, for tests of network failures.
//!
//! It listens on loopback and forwards everything until a test makes it cut, refuse or stall; `resume` ends that. It
//! can also refuse log-ins like a server or a pooler. The server may listen on TCP or on a Unix socket. Clients use
//! [`Proxy::url`].

use std::collections::VecDeque;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow, ensure};
use futures_util::future::try_join;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::{Lab, tests};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Closed, as when a server stops.
    Fin,
    /// Reset, as when a server or a firewall forgets it.
    Rst,
}

/// A running proxy. Dropping it ends its connections.
pub(crate) struct Proxy {
    url: String,
    address: SocketAddr,
    /// Reserves the port while nothing listens on it.
    _reserved: TcpSocket,
    line: Arc<Line>,
    server: Option<JoinHandle<()>>,
}

/// State shared by all connections.
struct Line {
    upstream: Upstream,
    /// A new value ends the current connections.
    cuts: watch::Sender<Ending>,
    is_stalled: watch::Sender<bool>,
    /// Whether the current stall has held bytes back.
    is_holding: watch::Sender<bool>,
    /// Refuses log-ins whose start-up message contains this text.
    refused_log_ins: Mutex<Option<String>>,
    /// Bytes that still pass before everything is cut.
    budget: Mutex<Option<(u64, Ending)>>,
    forwarded: AtomicU64,
    /// SQLSTATEs of the next refused log-ins.
    refusals: Mutex<VecDeque<&'static str>>,
    sessions: Semaphore,
}

pub(super) enum Upstream {
    Tcp(String, u16),
    Unix(PathBuf),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Proxy {
    /// Starts a proxy in front of the server of a database URL.
    pub(crate) fn start(database_url: &str) -> anyhow::Result<Self> {
        Self::with_sessions(database_url, Semaphore::MAX_PERMITS)
    }

    /// Starts a proxy that has so many sessions for its clients, as a pooler. Further clients are accepted and wait.
    pub(crate) fn with_sessions(database_url: &str, sessions: usize) -> anyhow::Result<Self> {
        let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let line = Arc::new(Line {
            upstream: Upstream::of(&PgConnectOptions::from_str(database_url)?),
            cuts: watch::Sender::new(Ending::Fin),
            is_stalled: watch::Sender::new(false),
            is_holding: watch::Sender::new(false),
            refused_log_ins: Mutex::default(),
            budget: Mutex::default(),
            forwarded: AtomicU64::new(0),
            refusals: Mutex::default(),
            sessions: Semaphore::new(sessions),
        });
        let mut proxy = Self { url: through(database_url, address)?, address, _reserved: reserved, line, server: None };
        proxy.resume()?;
        Ok(proxy)
    }

    /// The database behind the proxy. May contain a password: not for logs.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Bytes forwarded so far, in both directions.
    pub(crate) fn forwarded(&self) -> u64 {
        self.line.forwarded.load(Ordering::SeqCst)
    }

    /// Ends all connections. New ones work.
    pub(crate) fn cut(&self, ending: Ending) {
        self.line.cuts.send_replace(ending);
    }

    /// Forwards this many bytes more, in both directions together, then ends all connections. New ones work.
    pub(crate) fn cut_after(&self, bytes: u64, ending: Ending) {
        *self.line.budget.lock().expect("not poisoned") = Some((bytes, ending));
    }

    /// Refuses new connections at once. Existing ones stay.
    pub(crate) async fn refuse(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // The listener closes with its task, which can only have been cancelled.
            let _ = server.await;
        }
    }

    /// Refuses the next log-ins with FATAL and these SQLSTATEs, one each.
    pub(crate) fn refuse_log_ins(&self, codes: &[&'static str]) {
        self.line.refusals.lock().expect("not poisoned").extend(codes);
    }

    /// Refuses new connections whose start-up message holds a text, as a server does after a password was changed. Only for
    /// URLs with `sslmode=disable`.
    pub(crate) fn refuse_log_ins_with(&self, text: &str) {
        *self.line.refused_log_ins.lock().expect("not poisoned") = Some(text.to_owned());
    }

    /// Stalls: accepts connections, but forwards nothing in either direction.
    pub(crate) fn stall(&self) {
        self.line.is_holding.send_replace(false);
        self.line.is_stalled.send_replace(true);
    }

    /// Waits until a stall has held bytes back.
    pub(crate) async fn holds_something_back(&self) {
        self.line.is_holding.subscribe().wait_for(|is_holding| *is_holding).await.expect("the sender is here");
    }

    /// Forwards again; stalled bytes arrive now.
    pub(crate) fn resume(&mut self) -> anyhow::Result<()> {
        *self.line.budget.lock().expect("not poisoned") = None;
        self.line.is_stalled.send_replace(false);
        if self.server.is_none() {
            let listener = socket(self.address)?.listen(128)?;
            self.server = Some(tokio::spawn(serve(listener, Arc::clone(&self.line))));
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
        self.cut(Ending::Fin);
    }
}

/// A socket on an address that several may share; only one of them listens.
fn socket(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Replaces the address of a database URL.
pub(super) fn through(database_url: &str, address: SocketAddr) -> anyhow::Result<String> {
    let mut url = url::Url::parse(database_url)?;
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| !["host", "hostaddr", "port"].contains(&key.as_ref()))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    url.set_host(Some(&address.ip().to_string()))?;
    url.set_port(Some(address.port())).map_err(|()| anyhow!("a database URL takes a port"))?;
    Ok(url.into())
}

async fn serve(listener: TcpListener, line: Arc<Line>) {
    while let Ok((client, _)) = listener.accept().await {
        let cuts = line.cuts.subscribe();
        tokio::spawn(carry(Arc::clone(&line), client, cuts));
    }
}

/// Serves one connection until one side ends it or a test cuts it.
async fn carry(line: Arc<Line>, mut client: TcpStream, mut cuts: watch::Receiver<Ending>) -> io::Result<()> {
    let refusal = line.refusals.lock().expect("not poisoned").pop_front();
    if let Some(code) = refusal {
        return refuse_log_in(client, code).await;
    }
    let refused = line.refused_log_ins.lock().expect("not poisoned").clone();
    if let Some(refused) = refused {
        let mut start_up = [0; 1024];
        let length = client.peek(&mut start_up).await?;
        if start_up[..length].windows(refused.len()).any(|window| window == refused.as_bytes()) {
            return refuse_log_in(client, "28P01").await;
        }
    }
    // Never closed.
    let Ok(_session) = line.sessions.acquire().await else { return Ok(()) };
    let mut server = line.upstream.connect().await?;
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = io::split(&mut server);
        let both_ways = try_join(pump(&line, from_client, to_server), pump(&line, from_server, to_client));
        tokio::select! {
            biased;
            _ = cuts.changed() => {}
            ended = both_ways => return ended.map(drop),
        }
    }
    if *cuts.borrow() == Ending::Rst {
        client.set_zero_linger()?;
    }
    Ok(())
}

/// Reads the start-up message of a client, after refusing TLS.
pub(super) async fn startup(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
    loop {
        let length = client.read_u32().await?;
        let mut message = length.to_be_bytes().to_vec();
        message.resize(length as usize, 0);
        client.read_exact(&mut message[4..]).await?;
        if message[4..] != SSL_REQUEST {
            return Ok(message);
        }
        client.write_all(b"N").await?;
    }
}

/// Speaks just enough of the PostgreSQL protocol to refuse a log-in.
async fn refuse_log_in(mut client: TcpStream, code: &str) -> io::Result<()> {
    startup(&mut client).await?;
    hang_up(client, code, "no room at the moment").await
}

/// Ends the session of a client with an error.
pub(super) async fn hang_up(mut client: TcpStream, code: &str, message: &str) -> io::Result<()> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    client.write_u8(b'E').await?;
    client.write_u32(u32::try_from(fields.len() + 4).map_err(io::Error::other)?).await?;
    client.write_all(fields.as_bytes()).await?;
    client.shutdown().await
}

async fn pump(line: &Line, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        line.wait_until_flowing().await;
        if read == 0 {
            return to.shutdown().await;
        }
        let (passes, cut) = line.spend(read);
        to.write_all(&buffer[..passes]).await?;
        line.forwarded.fetch_add(passes as u64, Ordering::SeqCst);
        if let Some(ending) = cut {
            line.cuts.send_replace(ending);
            // This connection is one of those that end.
            pending::<()>().await;
        }
    }
}

impl Line {
    async fn wait_until_flowing(&self) {
        let mut is_stalled = self.is_stalled.subscribe();
        if *is_stalled.borrow() {
            self.is_holding.send_replace(true);
        }
        // It fails only if the sender is gone, which is in `self`.
        let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
    }

    /// Returns how many of these bytes may pass, and whether to cut after them.
    fn spend(&self, bytes: usize) -> (usize, Option<Ending>) {
        let mut budget = self.budget.lock().expect("not poisoned");
        match &mut *budget {
            None => (bytes, None),
            Some((left, _)) if (bytes as u64) < *left => {
                *left -= bytes as u64;
                (bytes, None)
            }
            Some((left, ending)) => {
                let last = (usize::try_from(*left).unwrap_or(bytes), Some(*ending));
                *budget = None;
                last
            }
        }
    }
}

impl Upstream {
    pub(super) fn of(options: &PgConnectOptions) -> Self {
        match options.get_socket() {
            Some(directory) => Self::Unix(directory.join(format!(".s.PGSQL.{}", options.get_port()))),
            None => Self::Tcp(options.get_host().to_owned(), options.get_port()),
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(host, port) => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

tests!(
    a_cut_ends_the_connections_of_the_moment,
    a_cut_can_wait_for_so_many_bytes,
    connecting_is_refused_until_the_proxy_resumes,
    a_stall_holds_everything_back_and_loses_nothing,
);

async fn connect(proxy: &Proxy) -> Result<sqlx::PgConnection, sqlx::Error> {
    PgConnectOptions::from_str(proxy.url())?.connect().await
}

async fn answer(connection: &mut sqlx::PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 42").fetch_one(connection).await
}

async fn a_cut_ends_the_connections_of_the_moment(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::start(lab.url())?;
    for ending in [Ending::Fin, Ending::Rst] {
        let mut connection = connect(&proxy).await?;
        assert_eq!(answer(&mut connection).await?, 42);
        proxy.cut(ending);
        let error = answer(&mut connection).await.err().context("it was cut")?;
        ensure!(matches!(error, sqlx::Error::Io(_)), "{error}");
    }
    let mut connection = connect(&proxy).await?;
    assert_eq!(answer(&mut connection).await?, 42);
    Ok(connection.close().await?)
}

async fn a_cut_can_wait_for_so_many_bytes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::start(lab.url())?;
    let mut connection = connect(&proxy).await?;
    let before = proxy.forwarded();
    proxy.cut_after(30, Ending::Fin);
    answer(&mut connection).await.err().context("it was cut")?;
    assert_eq!(proxy.forwarded() - before, 30);
    let mut connection = connect(&proxy).await?;
    assert_eq!(answer(&mut connection).await?, 42);
    Ok(connection.close().await?)
}

async fn connecting_is_refused_until_the_proxy_resumes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    let mut connection = connect(&proxy).await?;
    proxy.refuse().await;
    let error = TcpStream::connect(proxy.address).await.err().context("nothing listens")?;
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(answer(&mut connection).await?, 42);
    proxy.resume()?;
    connect(&proxy).await?.close().await?;
    Ok(connection.close().await?)
}

async fn a_stall_holds_everything_back_and_loses_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    let mut connection = connect(&proxy).await?;
    let before = proxy.forwarded();
    proxy.stall();
    let query = tokio::spawn(async move { answer(&mut connection).await });
    proxy.holds_something_back().await;
    assert_eq!(proxy.forwarded(), before);
    // TCP connections still work.
    TcpStream::connect(proxy.address).await?;
    ensure!(!query.is_finished(), "a reply came");
    proxy.resume()?;
    assert_eq!(query.await??, 42);
    Ok(())
}
