//! `GET /api/v1/ws`: the handshake.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{Extensions, HeaderMap};
use axum::response::Response;
use mesh_types::{Problem, Tenant};

use super::line;
use super::visitor::{Line, Visitor};
use crate::http::edge::RequestIdentity;
use crate::http::extract::{FromParams, Params, Query, TENANT_HEADER, header_text};
use crate::http::origin;
use crate::http::problem::Failure;
use crate::http::tunnel::no_websocket;
use crate::state::App;

/// Largest message of a client.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// A connection reads little: the default would hold 128 KiB for each.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Written in one system call; what waits beyond it is the client's own fault.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
const WRITE_BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) struct Asked {
    ticket: Option<String>,
    tenant: Option<Tenant>,
}

impl FromParams for Asked {
    const NAMES: &'static [&'static str] = &["ticket", "tenant"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self {
            ticket: params.take("ticket")?,
            tenant: params.take("tenant")?,
        })
    }
}

/// Live pushes. The client sends `{"subscribe":[topics],"after":cursor}` first, and later, if it likes, more
/// `{"subscribe":[…]}` and `{"unsubscribe":[…]}`. Each push is `{"cursor","topic","event","data"}`; the cursor of the
/// last one as `after` of the next connection continues without loss or repetition. `{"live":true,"cursor"}` says that
/// all of before is told, `{"reset":{"reason"},"cursor"}` that the cursor cannot be continued (`expired`,
/// `another_feed`): read again what is shown. `{"subscribed":[topics],"cursor"}` answers a later `subscribe`: from there
/// on they are pushed, so read what is shown after it, and nothing is missed in between.
/// `{"error":problem,"topic","retry"}` says what could not be done; with `retry` the topic may be subscribed to again,
/// after the problem's `retry_after_seconds`.
///
/// Topics: `invocations`, `invocation:<id>` (its steps and text, from the beginning, or with `@<cursor>` after an event
/// of its own stream), `agents`, `nodes`, `passes`, `memories`, `knowledge`, `channels`, `channel:<id>`, `services`,
/// `models`, `audit`, `dead-letters`.
///
/// Browsers bring a ticket of `POST /api/v1/auth/tickets`, programs their credential in a header. Close codes: 1001 no
/// answer to two pings, 1003 a message that is no text, 1012 the gateway restarts, 1013 not available, 4400 nothing was
/// subscribed to, 4401 the credential is not good any more, 4408 too slow; after all but 1003, 4400 and 4401 come back
/// with the cursor.
#[utoipa::path(get, path = "/api/v1/ws", operation_id = "live_websocket", tag = "live",
    params(("ticket" = Option<String>, Query), ("tenant" = Option<Tenant>, Query, description = "Development mode only")),
    security(()),
    responses((status = 101, description = "a WebSocket")))]
pub(super) async fn socket(
    State(app): State<App>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    extensions: Extensions,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let named: Option<Tenant> = header_text(&headers, TENANT_HEADER)?
        .map(str::parse)
        .transpose()
        .map_err(|error| Failure(Problem::from(error).field("Mesh-Tenant")))?;
    let identity = extensions.get::<RequestIdentity>().map(|identity| identity.id);
    let tenant = asked.tenant.or(named);
    let visitor = Visitor::of(&app, asked.ticket.as_deref(), &headers, tenant, identity).await?;
    let upgrade = upgrade.map_err(|error| no_websocket(&error))?;
    let place = visitor.enter(&app, Line::WebSocket)?;
    let upgrade = upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let tasks = app.hub.tasks().clone();
        tasks.spawn("live-socket", line::serve(app, socket, visitor, place));
    }))
}
