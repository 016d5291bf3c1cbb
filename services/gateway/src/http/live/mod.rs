//! Live pushes over a WebSocket (`/api/v1/ws`) and as server-sent events (`/api/v1/events`); what is pushed is `hub`'s.

mod config;
mod cursor;
mod follow;
mod line;
mod pushes;
mod reading;
mod sse;
mod visitor;
mod wanted;
mod ws;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;
pub use config::LiveConfig;
pub(super) use visitor::Visitor;
pub(crate) use visitor::Visitors;

pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(ws::socket))
        .routes(routes!(sse::events))
}

/// Why a connection ends: what a client is told, and what it should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client did not answer two pings.
    Silent,
    /// What it sent is no message of this protocol.
    Unsupported,
    /// The process stops: come back with the cursor.
    Restart,
    /// Pushes cannot be had at the moment: come back with the cursor.
    Unavailable,
    /// Nothing was subscribed to in time, or it was no subscription.
    NoSubscription,
    /// What it was opened with is not good any more: sign in.
    Unauthorized,
    /// It reads too slowly: come back with the cursor.
    Slow,
}

impl End {
    /// Close codes: of RFC 6455 and its registry, and above 4000 our own.
    fn close(self) -> (u16, &'static str) {
        match self {
            Self::Silent => (1001, "no answer to two pings"),
            Self::Unsupported => (1003, "messages are JSON in text frames"),
            Self::Restart => (1012, "the gateway restarts, resume from your cursor"),
            Self::Unavailable => (1013, "not available at the moment, resume from your cursor"),
            Self::NoSubscription => (4400, "the first message is {\"subscribe\":[…]}"),
            Self::Unauthorized => (4401, "the credential is not good any more"),
            Self::Slow => (4408, "too slow, resume from your cursor"),
        }
    }
}
