//! A network that fails, between one process and one server.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What it does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// Carries them, each piece this much later.
    Late(Duration),
    /// Keeps them, and the connections too: nobody hears of anybody until it is carried on.
    Hole,
    /// Hangs up on everybody, at once.
    Cut,
}

/// As it should be.
pub const WELL: Net = Net::Late(Duration::ZERO);

/// Listens on a port of its own and carries every connection to one address.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    net: Arc<watch::Sender<Net>>,
    harmed: Arc<AtomicU64>,
    _listening: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Takes a port; `to` says where to, once that is known.
    pub async fn new(to: watch::Receiver<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let net = Arc::new(watch::Sender::new(WELL));
        let harmed = Arc::new(AtomicU64::new(0));
        let (changes, count) = (net.clone(), harmed.clone());
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, line) = (to.borrow().clone(), Line { net: changes.subscribe(), harmed: count.clone() });
                tokio::spawn(async move {
                    let _ = carry(client, &to, line).await;
                });
            }
        });
        Self { address, net, harmed, _listening: AbortOnDropHandle::new(listening) }
    }

    /// To an address that is known.
    pub async fn to(address: &str) -> Self {
        Self::new(watch::Sender::new(address.to_owned()).subscribe()).await
    }

    /// From now on.
    pub fn set(&self, net: Net) {
        self.net.send_replace(net);
    }

    /// How many pieces and connections were late, held back or cut so far.
    pub fn harmed(&self) -> u64 {
        self.harmed.load(Ordering::Relaxed)
    }
}

/// What one direction of a connection goes through.
#[derive(Clone)]
struct Line {
    net: watch::Receiver<Net>,
    harmed: Arc<AtomicU64>,
}

impl Line {
    /// Returns when a piece may go on.
    async fn through(&mut self) -> io::Result<()> {
        if *self.net.borrow() != WELL {
            self.harmed.fetch_add(1, Ordering::Relaxed);
        }
        let now = *self.net.wait_for(|net| *net != Net::Hole).await.map_err(io::Error::other)?;
        match now {
            Net::Late(late) => {
                tokio::time::sleep(late).await;
                Ok(())
            }
            Net::Cut | Net::Hole => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Returns when the connection is cut.
    async fn cut(&mut self) -> io::Result<()> {
        self.net.wait_for(|net| *net == Net::Cut).await.map_err(io::Error::other)?;
        self.harmed.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

async fn carry(client: TcpStream, to: &str, mut line: Line) -> io::Result<()> {
    line.through().await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = TcpStream::connect(to).await?.into_split();
    tokio::select! {
        ended = one_way(from_client, to_server, line.clone()) => ended,
        ended = one_way(from_server, to_client, line) => ended,
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: Line) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read?,
            cut = line.cut() => return cut,
        };
        if read == 0 {
            return Ok(());
        }
        line.through().await?;
        to.write_all(&piece[..read]).await?;
    }
}
