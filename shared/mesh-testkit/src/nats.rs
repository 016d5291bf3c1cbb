//! A nats-server for one test: free ports, a store of its own, synced.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_servers::{NatsOptions, NatsServer, NatsTool, Quiet, ScratchDir};

/// A running nats-server; it and its data go when this is dropped.
#[derive(Debug)]
pub struct TestNats {
    // Before the folder: the server must not lose its store while it runs.
    server: Arc<Mutex<NatsServer>>,
    url: String,
    monitor_url: String,
    _folder: ScratchDir,
}

impl TestNats {
    /// A server that syncs every message, as the mesh demands.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server with other options.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_with(change: impl FnOnce(&mut NatsOptions) + Send + 'static) -> Self {
        blocking(move || {
            let tool = NatsTool::resolve(&mut Quiet).expect("nats-server is found or fetched");
            let folder = ScratchDir::new().expect("a folder for the test");
            let mut options = NatsOptions::new(folder.path().join("nats"));
            change(&mut options);
            let server = NatsServer::start(&tool, options).expect("nats-server starts");
            Self {
                url: server.url(),
                monitor_url: server.monitor_url(),
                server: Arc::new(Mutex::new(server)),
                _folder: folder,
            }
        })
        .await
    }

    /// Address for clients; stays the same over restarts.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Address of HTTP monitoring.
    #[must_use]
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// Stops it in order and starts it again on the same data and ports.
    ///
    /// # Panics
    /// When it does not stop or start.
    pub async fn restart(&self) {
        self.change(|server| server.restart().expect("nats-server restarts"))
            .await;
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn stop(&self) {
        self.change(|server| server.stop().expect("nats-server stops")).await;
    }

    /// Kills it without a word.
    ///
    /// # Panics
    /// When it survives.
    pub async fn kill(&self) {
        self.change(|server| server.kill().expect("nats-server dies")).await;
    }

    async fn change(&self, change: impl FnOnce(&mut NatsServer) + Send + 'static) {
        let server = Arc::clone(&self.server);
        blocking(move || change(&mut lock(&server))).await;
    }
}

fn lock(server: &Mutex<NatsServer>) -> MutexGuard<'_, NatsServer> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starting servers blocks; the test's own tasks go on meanwhile.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
