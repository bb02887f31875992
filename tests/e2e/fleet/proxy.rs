//! A network that fails, between one process and one server.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};
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
    _listening: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Takes a port; `to` says where to, once that is known.
    pub async fn new(to: watch::Receiver<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let net = Arc::new(watch::Sender::new(WELL));
        let changes = net.clone();
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, changes) = (to.borrow().clone(), changes.subscribe());
                tokio::spawn(async move {
                    let _ = carry(client, &to, changes).await;
                });
            }
        });
        Self { address, net, _listening: AbortOnDropHandle::new(listening) }
    }

    /// To an address that is known.
    pub async fn to(address: &str) -> Self {
        Self::new(watch::Sender::new(address.to_owned()).subscribe()).await
    }

    /// From now on.
    pub fn set(&self, net: Net) {
        self.net.send_replace(net);
    }
}

async fn carry(client: TcpStream, to: &str, net: watch::Receiver<Net>) -> io::Result<()> {
    through(&mut net.clone()).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = TcpStream::connect(to).await?.into_split();
    tokio::select! {
        ended = one_way(from_client, to_server, net.clone()) => ended,
        ended = one_way(from_server, to_client, net) => ended,
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut net: watch::Receiver<Net>) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read?,
            cut = net.wait_for(|net| *net == Net::Cut) => return cut.map(drop).map_err(io::Error::other),
        };
        if read == 0 {
            return Ok(());
        }
        through(&mut net).await?;
        to.write_all(&piece[..read]).await?;
    }
}

/// Returns when a piece may go on.
async fn through(net: &mut watch::Receiver<Net>) -> io::Result<()> {
    let now = *net.wait_for(|net| *net != Net::Hole).await.map_err(io::Error::other)?;
    match now {
        Net::Late(late) => {
            tokio::time::sleep(late).await;
            Ok(())
        }
        Net::Cut | Net::Hole => Err(io::ErrorKind::ConnectionReset.into()),
    }
}
