//! A TCP proxy before Postgres that can cut a connection before a request reaches it, or before its answer is heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cut {
    Never = 0,
    /// The request never arrives.
    BeforeRequest = 1,
    /// The request arrives and is committed; its answer is lost.
    BeforeAnswer = 2,
}

pub(super) struct Proxy {
    pub(super) url: String,
    next: Arc<AtomicU8>,
}

impl Proxy {
    pub(super) async fn before(database_url: &str) -> Self {
        let (scheme, rest) = database_url.split_once('@').unwrap();
        let (target, path) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}@{}/{path}", listener.local_addr().unwrap());
        let next = Arc::new(AtomicU8::new(Cut::Never as u8));
        let (target, cut) = (target.to_owned(), Arc::clone(&next));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                tokio::spawn(forward(client, server, Arc::clone(&cut)));
            }
        });
        Self { url, next }
    }

    /// The next request on any connection is cut so, once.
    pub(super) fn cut(&self, cut: Cut) {
        self.next.store(cut as u8, Ordering::SeqCst);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.next.load(Ordering::SeqCst) == Cut::Never as u8
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, cut: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                if cut.compare_exchange(Cut::BeforeRequest as u8, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return;
                }
                if server.write_all(&up[..n]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                // The answer is here, so the statement is committed; nobody hears it.
                if cut.compare_exchange(Cut::BeforeAnswer as u8, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return;
                }
                if client.write_all(&down[..n]).await.is_err() { return }
            }
        }
    }
}
