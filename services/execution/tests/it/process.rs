//! One process of `execution`, on a runtime of its own: it can be stopped in order, or end like a killed one.

use std::time::Duration;

use execution::{Config, Error};
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::{Context, DatabaseConfig, Metrics};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) struct Process {
    runtime: Option<Runtime>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: Metrics,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// A configuration that suits tests.
pub(crate) fn config(database_url: &str, instance: &str) -> Config {
    Config {
        database: DatabaseConfig {
            url: database_url.into(),
            connections: 4,
        },
        instance: instance.into(),
        drain_seconds: 2,
        ..Config::default()
    }
}

impl Process {
    pub(crate) async fn start(nats_url: &str, config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (started, mut token) = mpsc::channel(1);
        let (tell, ended) = oneshot::channel();
        let options = BusOptions {
            url: nats_url.into(),
            name: config.instance.clone(),
            monitor_url: None,
            user: None,
        };
        let metrics = Metrics::default();
        let own = metrics.clone();
        runtime.handle().spawn(async move {
            let bus = Bus::connect(options).await.unwrap();
            let context = Context::new("execution", bus, own);
            started.send(context.shutdown.clone()).await.unwrap();
            let _ = tell.send(execution::run(config, context).await);
        });
        let shutdown = token.recv().await.unwrap();
        Self {
            runtime: Some(runtime),
            shutdown,
            metrics,
            ended,
        }
    }

    /// As a killed process: every task ends where it stands, nothing is handed back.
    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// As after SIGTERM.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), &mut self.ended).await;
        ended.expect("it stops in time").unwrap().unwrap();
    }

    /// Ends by itself.
    pub(crate) async fn end(&mut self) -> Result<(), Error> {
        tokio::time::timeout(Duration::from_secs(30), &mut self.ended)
            .await
            .expect("it ends in time")
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
