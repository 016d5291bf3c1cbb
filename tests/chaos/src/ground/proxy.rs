//! A TCP proxy before Postgres that cuts a connection before a batch reaches it, or after it was committed and before
//! its answer is heard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    Never = 0,
    /// The batch never arrives.
    BeforeRequest = 1,
    /// The batch is committed; its answer is lost.
    AfterCommit = 2,
}

/// A request of so many bytes is a batch: reads and beats are smaller.
const BATCH_BYTES: usize = 700;

/// Ends with its connections when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU8,
    cuts: AtomicU64,
}

impl Proxy {
    pub(super) async fn before(target_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        let of_tasks = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let shared = Arc::clone(&of_tasks);
                connections.spawn(async move {
                    // Postgres may be down: the client sees a closed connection, as without a proxy.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", target_port)).await {
                        let _ = forward(client, server, &shared).await;
                    }
                });
            }
        });
        Ok(Self {
            port,
            shared,
            _tasks: tasks,
        })
    }

    /// The next batch on any connection is cut so, once.
    pub(crate) fn cut(&self, cut: Cut) {
        self.shared.next.store(cut as u8, Ordering::SeqCst);
    }

    /// Cuts that have happened.
    pub(crate) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn take(&self, cut: Cut) -> bool {
        let taken = self
            .next
            .compare_exchange(cut as u8, Cut::Never as u8, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        self.cuts.fetch_add(u64::from(taken), Ordering::SeqCst);
        taken
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, shared: &Shared) -> io::Result<()> {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    // Whether what was sent last is a batch, of which no answer was heard.
    let mut is_batch = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let n = read?;
                if n == 0 {
                    return Ok(());
                }
                is_batch = n >= BATCH_BYTES;
                if is_batch && shared.take(Cut::BeforeRequest) {
                    return Ok(());
                }
                server.write_all(&up[..n]).await?;
            }
            read = server.read(&mut down) => {
                let n = read?;
                // The answer of a statement comes after its commit.
                if n == 0 || is_batch && shared.take(Cut::AfterCommit) {
                    return Ok(());
                }
                is_batch = false;
                client.write_all(&down[..n]).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (u16, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                all.spawn(async move {
                    let mut buffer = vec![0; 4_096];
                    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..n]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, tasks)
    }

    async fn answered(stream: &mut TcpStream, bytes: usize) -> bool {
        if stream.write_all(&vec![7; bytes]).await.is_err() {
            return false;
        }
        let mut buffer = vec![0; bytes];
        matches!(stream.read_exact(&mut buffer).await, Ok(n) if n == bytes)
    }

    #[tokio::test]
    async fn a_batch_is_cut_once_and_small_requests_never() {
        let (port, _tasks) = echo().await;
        let proxy = Proxy::before(port).await.unwrap();
        for cut in [Cut::AfterCommit, Cut::BeforeRequest] {
            let before = proxy.cuts();
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
            proxy.cut(cut);
            assert!(answered(&mut stream, 20).await);
            assert!(!answered(&mut stream, BATCH_BYTES).await, "{cut:?}");
            let mut other = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
            assert!(answered(&mut other, BATCH_BYTES).await);
            assert_eq!(proxy.cuts(), before + 1);
        }
    }
}
