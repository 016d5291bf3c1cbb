//! The edge: HTTP API, server-sent events, OpenAPI. Owns no data: every answer comes from a service over the bus.

mod config;
mod feed;
mod http;
mod hub;
mod state;
mod tunnel;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use mesh_runtime::Context;
use tokio::net::TcpListener;

pub use config::{Config, ConfigRefused, RateConfig};
pub use http::{LiveConfig, openapi};
pub use tunnel::{NatsProxyConfig, TunnelConfig};

/// Why the edge could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration of `gateway` is not valid: {0}")]
    Config(#[from] ConfigRefused),
    #[error("{address} is in use by another program: set MESH_HTTP_PORT to a free port, or stop that program")]
    PortTaken { address: SocketAddr },
    #[error("listening on {address} failed")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("serving HTTP failed")]
    Serve {
        #[source]
        source: std::io::Error,
    },
}

/// Binds and serves until `context.shutdown`; returns when drained.
pub async fn run(config: Config, context: Context) -> Result<(), Error> {
    Gateway::bind(config).await?.serve(context).await
}

/// A bound edge: its address is known before the first request is answered (port 0 asks for a free one).
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

impl Gateway {
    /// Errors: a host that is not loopback where no credentials are demanded, a port in use.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let address = config.address()?;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => Error::PortTaken { address },
            _ => Error::Bind { address, source },
        })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Bind { address, source })?;
        Ok(Self {
            listener,
            address,
            config,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `context.shutdown`, then stops accepting, ends event streams and finishes what is in flight
    /// within the drain deadline.
    pub async fn serve(self, context: Context) -> Result<(), Error> {
        let Self {
            listener,
            address,
            config,
        } = self;
        let shutdown = context.shutdown.clone();
        let drain = Duration::from_millis(config.drain_timeout_ms);
        let router = http::router(&config, &context);
        if config.require_credentials {
            tracing::info!(%address, "credentials are demanded");
        } else {
            tracing::info!(%address, "development mode: nobody signs in, so only this machine is served");
        }
        let listener = listener.tap_io(|stream| {
            // Without it small answers wait for the peer's delayed acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY was refused");
            }
        });
        let serve = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            served = serve.into_future() => served.map_err(|source| Error::Serve { source }),
            () = overdue => {
                tracing::warn!(drain_ms = config.drain_timeout_ms, "requests were still open at the drain deadline");
                Ok(())
            }
        }
    }
}
