//! `/api/v1/channels`: the list, the history of one, and posting as a user.

use axum::extract::State;
use axum::http::StatusCode;
use mesh_api::messaging::{
    Author, AuthorKind, ChannelHistory, ChannelList, ChannelView, History, HistoryRequest, Message, MessagePost,
    PostRequest,
};
use mesh_api::{Page, PageQuery};
use mesh_types::content::Content;
use mesh_types::{ChannelId, MessageId, Problem};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(history, post))
}

/// Channels of the tenant, those with the newest messages first.
#[utoipa::path(get, path = "/api/v1/channels", operation_id = "list_channels", tag = "channels",
    params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<ChannelView>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ChannelView>>, Failure> {
    app.call::<ChannelList>(&caller, &page).await.map(Json)
}

/// The newest messages, oldest first; `after` (`next` of the page before) reads on towards older ones.
#[utoipa::path(get, path = "/api/v1/channels/{channel}/messages", operation_id = "list_messages", tag = "channels",
    params(("channel" = ChannelId, Path), PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = History)))]
async fn history(
    State(app): State<App>,
    Who(caller): Who,
    Segment(channel): Segment<ChannelId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<History>, Failure> {
    let before = page.after.as_deref().map(str::parse::<MessageId>).transpose();
    let before = before.map_err(|error| Failure(Problem::from(error).field("after")))?;
    let request = HistoryRequest {
        channel,
        limit: page.limit(),
        before,
    };
    app.call::<ChannelHistory>(&caller, &request).await.map(Json)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    text: String,
    /// The same id and body again is the first answer. Minted when left out.
    #[serde(default)]
    id: Option<MessageId>,
    /// In development mode anyone may speak; left out, it is the user `dev`.
    #[serde(default)]
    author: Option<Author>,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// Posts a message.
#[utoipa::path(post, path = "/api/v1/channels/{channel}/messages", operation_id = "post_message", tag = "channels",
    params(("channel" = ChannelId, Path)), request_body = NewMessage,
    security(("credential" = ["service"])),
    responses((status = 201, body = Message)))]
async fn post(
    State(app): State<App>,
    Who(caller): Who,
    Segment(channel): Segment<ChannelId>,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<NewMessage>,
) -> Result<(StatusCode, Json<Message>), Failure> {
    let NewMessage {
        text,
        id,
        author,
        content,
        metadata,
    } = body;
    let author = author.unwrap_or_else(|| Author {
        kind: AuthorKind::User,
        id: caller.actor.clone(),
    });
    let request = PostRequest {
        channel,
        id,
        author,
        text,
        content,
        metadata,
    };
    let message = app.call::<MessagePost>(&caller, &request).await?;
    Ok((StatusCode::CREATED, Json(message)))
}
