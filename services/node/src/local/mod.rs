//! The node's own API and page: one server on loopback, for whoever has the node's key. It never ends the node: where
//! its port is taken, it says the way out and is not there.

mod access;
mod chat;
mod configuration;
mod inference;
mod keys;
mod page;
mod problem;
mod sessions;
mod settings;
mod status;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::future::IntoFuture;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use mesh_runtime::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::chat::Chat;
use crate::models::{Centre, Models};
use keys::Keys;
use sessions::Sessions;

pub(crate) use configuration::Patch;
pub(crate) use settings::{Access, Running, Settings};
pub(crate) use status::Status;

/// Where it listens unless the configuration says otherwise.
pub(crate) const PORT: u16 = 8765;
const BODY_BYTES_MAX: usize = 256 * 1024;
/// What runs gets so long at a shutdown; streams end at once.
const DRAIN: Duration = Duration::from_secs(2);

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    settings: Arc<dyn Settings>,
    models: Arc<Models>,
    chat: Arc<Chat>,
    keys: Keys,
    sessions: Sessions,
    address: SocketAddr,
    context: Context,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What the server is made of.
pub(crate) struct Parts {
    pub(crate) settings: Arc<dyn Settings>,
    pub(crate) models: Arc<Models>,
    pub(crate) chat: Arc<Chat>,
    pub(crate) centre: Arc<dyn Centre>,
    /// Where the local key is kept.
    pub(crate) folder: PathBuf,
}

/// Serves until `context.shutdown`. `None`: it cannot listen there, which is said in the log. Answers its address as this
/// machine has it, which is loopback also where a container's port is published there.
pub(crate) async fn start(wanted: SocketAddr, parts: Parts, context: &Context) -> Option<SocketAddr> {
    let bound = TcpListener::bind(wanted).await;
    let bound = bound.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    let (listener, address) = match bound {
        Ok(bound) => bound,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!(
                address = %wanted,
                "the node's page is not served: another program, or another node, has its port. Give this node one of \
                 its own with MESH_NODE__LOCAL_PORT (0: any free one), or none with MESH_NODE__LOCAL=false"
            );
            return None;
        }
        Err(error) => {
            tracing::warn!(address = %wanted, %error, "the node's page is not served");
            return None;
        }
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    let keys = Keys::new(&parts.folder, parts.settings.as_ref(), parts.centre, context).await;
    match keys.link(address) {
        // Not into the log: who reads that need not be who owns the node.
        Some(link) => eprintln!("The node's page: {link}"),
        None => tracing::info!(page = %format!("http://{address}/"), "the node's page, for its owner's API key"),
    }
    let app = App(Arc::new(Inner {
        settings: parts.settings,
        models: parts.models,
        chat: parts.chat,
        keys,
        sessions: Sessions::default(),
        address,
        context: context.clone(),
    }));
    context
        .tasks
        .spawn("local-api", serve(listener, app, context.shutdown.clone()));
    Some(address)
}

async fn serve(listener: TcpListener, app: App, shutdown: CancellationToken) {
    let serve = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serve.into_future() => if let Err(error) = served {
            tracing::warn!(%error, "the node's page is not served any more");
        },
        () = overdue => tracing::debug!("requests at the node's page are cut off"),
    }
}

/// All routes. What is in the first part is open to every program of this machine.
fn router(app: App) -> Router {
    let open = Router::new()
        .route("/", get(page::index))
        .route("/page.js", get(page::script))
        .route("/api.js", get(page::api))
        .route("/chat.js", get(page::chat))
        .route("/page.css", get(page::style))
        .route("/health", get(status::health))
        .route(
            "/api/v1/session",
            post(access::sign_in).get(access::signed_in).delete(access::sign_out),
        );
    let keyed = Router::new()
        .route(
            "/api/v1/agent-node/configuration",
            get(configuration::read).post(configuration::write),
        )
        .route(
            "/api/v1/configure/inference/provider",
            get(inference::provider).put(inference::choose),
        )
        .route("/api/v1/configure/inference/models", get(inference::models))
        .route("/api/v1/status", get(status::read))
        .route("/api/v1/chat", post(chat::talk))
        .route_layer(from_fn_with_state(app.clone(), access::demand_key));
    open.merge(keyed)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), access::own_pages_only))
        .layer(from_fn(page::with_headers))
        .with_state(app)
}
