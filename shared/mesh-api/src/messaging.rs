//! Endpoints of `messaging`: channels and their messages.

use mesh_types::content::Content;
use mesh_types::{ChannelId, MessageId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::page::{Page, PageQuery};

endpoints! { "messaging";
    /// Those with the newest messages first.
    ChannelList = "channel-list", PageQuery => Page<ChannelView>, Viewer, 5 s;
    /// Oldest first: the newest `limit` messages of a channel.
    ChannelHistory = "channel-history", HistoryRequest => History, Viewer, 5 s;
    /// Idempotent by message id: the same body again is the first answer.
    MessagePost = "message-post", PostRequest => Message, Program, 5 s;
}

/// A channel, and when something was last said in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChannelView {
    pub id: ChannelId,
    pub created_at: Timestamp,
    pub created_by: String,
    /// Of the newest message; `null` where there is none.
    pub last_message_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRequest {
    pub channel: ChannelId,
    /// At most 500.
    pub limit: u32,
    /// Only messages before this one.
    #[serde(default)]
    pub before: Option<MessageId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct History {
    pub items: Vec<Message>,
    /// Pass it as `before` to read older ones.
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostRequest {
    pub channel: ChannelId,
    /// Minted when left out; a caller that may repeat itself brings its own.
    #[serde(default)]
    pub id: Option<MessageId>,
    pub author: Author,
    pub text: String,
    /// Typed blocks beside the text, kept verbatim.
    #[serde(default)]
    pub content: Option<Content>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Message {
    pub id: MessageId,
    pub channel_id: ChannelId,
    pub author: Author,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Author {
    pub kind: AuthorKind,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthorKind {
    User,
    Agent,
    System,
}
