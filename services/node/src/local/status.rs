//! What the node is and does now. `/health` is open, and says no more than that it lives.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mesh_types::NodeId;
use mesh_types::fleet::NodeMode;
use serde::Serialize;
use serde_json::{Value, json};

use super::App;
use super::settings::{Access, Running, Settings};
use crate::chat::Talker;
use crate::models::{Models, Provider};

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    pub(crate) node_id: NodeId,
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) mode: NodeMode,
    /// `None` in development mode.
    pub(crate) owner: Option<String>,
    pub(crate) mesh_connected: bool,
    pub(crate) incarnation: u64,
    pub(crate) provider: Provider,
    pub(crate) chat: ChatOffer,
    #[serde(flatten)]
    pub(crate) running: Running,
}

/// Whether the one who asks may chat, and else why not.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChatOffer {
    pub(crate) offered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Status {
    pub(crate) fn of(settings: &dyn Settings, models: &Models, for_whom: Talker) -> Self {
        let mode = settings.mode();
        let refused = for_whom.may_talk(mode).err();
        Self {
            node_id: settings.node_id(),
            name: settings.name(),
            version: env!("CARGO_PKG_VERSION"),
            mode,
            owner: match settings.access() {
                Access::Development => None,
                Access::Owned { owner, .. } => Some(owner),
            },
            mesh_connected: settings.is_connected(),
            incarnation: settings.incarnation(),
            provider: models.provider(),
            chat: ChatOffer {
                offered: refused.is_none(),
                reason: refused.map(|problem| problem.detail),
            },
            running: settings.running(),
        }
    }
}

pub(super) async fn read(State(app): State<App>) -> Json<Status> {
    Json(Status::of(app.settings.as_ref(), &app.models, Talker::Page))
}

pub(super) async fn health(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let connected = app.settings.is_connected();
    let (status, word) = match connected {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body =
        json!({"status": word, "service": "node", "version": env!("CARGO_PKG_VERSION"), "nats_connected": connected});
    (status, Json(body))
}
