//! A TCP proxy on loopback between a node and its mesh, which can cut them off from each other: what is open freezes,
//! as in a partition, and what is new is not answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cut: Arc<watch::Sender<bool>>,
    /// Ends with it.
    _accepting: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let cut = Arc::new(watch::channel(false).0);
        let heard = Arc::clone(&cut);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut carrying = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let cut = heard.subscribe();
                carrying.spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                        carry(client, server, cut).await;
                    }
                });
            }
        });
        Self {
            address,
            cut,
            _accepting: accepting,
        }
    }

    /// Nothing passes for so long.
    pub(super) async fn partition(&self, time: Duration) {
        self.cut.send_replace(true);
        tokio::time::sleep(time).await;
        self.cut.send_replace(false);
    }
}

async fn carry(client: TcpStream, server: TcpStream, cut: watch::Receiver<bool>) {
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = pass(client_in, server_out, cut.clone()) => {}
        () = pass(server_in, client_out, cut) => {}
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if cut.wait_for(|cut| !cut).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = cut.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(bytes) = read.map(|count| &buffer[..count]) else {
            return;
        };
        // What was on its way when the line was cut arrives after it.
        if bytes.is_empty() || cut.wait_for(|cut| !cut).await.is_err() || to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
