//! Errors as they cross a wire: RFC 9457 problem documents with a stable `type`. One table maps code to status.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An RFC 9457 problem. `type` is stable and machine-readable, `detail` is for people, `next` says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    #[serde(rename = "type")]
    #[schema(example = "registry/agent-not-found")]
    pub kind: String,
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    pub detail: String,
    /// Path of the field at fault, such as `spec.model.temperature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the caller can do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds after which a retry makes sense; the edge also says it as `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (kind, status, title) = code.row();
        Self {
            kind: kind.to_owned(),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            field: None,
            next: None,
            request_id: None,
            retry_after_seconds: (status == 429 || status == 503).then_some(1),
        }
    }

    #[must_use]
    pub fn field(mut self, path: impl Into<String>) -> Self {
        self.field = Some(path.into());
        self
    }

    #[must_use]
    pub fn next(mut self, what_to_do: impl Into<String>) -> Self {
        self.next = Some(what_to_do.into());
        self
    }

    pub fn is(&self, code: Code) -> bool {
        self.kind == code.row().0
    }

    /// Whether the same request may succeed later without a change by the caller.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 502 | 503 | 504)
    }
}

macro_rules! codes {
    ($($name:ident = $kind:literal, $status:literal, $title:literal;)*) => {
        /// Every kind of problem that the mesh reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($name,)* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Stable `type`, HTTP status, title.
            pub const fn row(self) -> (&'static str, u16, &'static str) {
                match self { $(Self::$name => ($kind, $status, $title),)* }
            }
        }
    };
}

codes! {
    MalformedJson = "mesh/malformed-json", 400, "The body is not valid JSON";
    InvalidRequest = "mesh/invalid-request", 400, "The request is not valid";
    InvalidName = "mesh/invalid-name", 400, "That is not a valid name or id";
    BodyTooLarge = "mesh/body-too-large", 413, "The body is too large";
    UnsupportedMediaType = "mesh/unsupported-media-type", 415, "The media type is not supported";
    RequestTimeout = "mesh/request-timeout", 408, "The request did not arrive in time";
    RouteNotFound = "mesh/route-not-found", 404, "There is no such route";
    MethodNotAllowed = "mesh/method-not-allowed", 405, "The route does not take this method";
    PreconditionFailed = "mesh/precondition-failed", 412, "The object has changed meanwhile";
    Timeout = "mesh/timeout", 504, "No answer in time";
    Unavailable = "mesh/unavailable", 503, "A service is not available";
    Busy = "mesh/busy", 503, "Too much work is waiting";
    RateLimited = "mesh/rate-limited", 429, "Too many requests";
    Internal = "mesh/internal", 500, "Something failed inside";
    Unauthorized = "identity/unauthorized", 401, "Sign-in is needed";
    Forbidden = "identity/forbidden", 403, "Not allowed";
    CredentialNotFound = "identity/credential-not-found", 404, "There is no such credential";
    UserNotFound = "identity/user-not-found", 404, "There is no such user";
    UserAlreadyExists = "identity/user-already-exists", 409, "The login is taken";
    TenantNotFound = "registry/tenant-not-found", 404, "There is no such tenant";
    AgentNotFound = "registry/agent-not-found", 404, "There is no such agent";
    AgentAlreadyExists = "registry/agent-already-exists", 409, "The agent exists already";
    AgentNotPublished = "registry/agent-not-published", 409, "The agent has no published version";
    AgentInvalid = "registry/agent-invalid", 422, "The declared agent is not valid";
    VersionNotFound = "registry/version-not-found", 404, "There is no such version";
    ArtifactNotFound = "registry/artifact-not-found", 404, "There is no such artifact";
    RuntimeNotAvailable = "registry/runtime-not-available", 422, "That runtime is not available yet";
    NodeNotFound = "registry/node-not-found", 404, "There is no such node";
    NodeNotPrivate = "node/not-private", 409, "The node does not chat in this mode";
    NodeConfigurationFixed = "node/configuration-fixed", 409, "That was fixed where the node was started";
    TooManyAttempts = "identity/too-many-attempts", 429, "Too many attempts";
    InvocationNotFound = "execution/invocation-not-found", 404, "There is no such invocation";
    InvocationEnded = "execution/invocation-ended", 409, "The invocation has ended already";
    InvocationFailed = "execution/invocation-failed", 500, "The invocation failed";
    DeadlineExceeded = "execution/deadline-exceeded", 504, "The invocation passed its deadline";
    Cancelled = "execution/cancelled", 409, "The invocation was cancelled";
    LimitReached = "execution/limit-reached", 422, "The invocation reached one of its limits";
    AttemptsExhausted = "execution/attempts-exhausted", 500, "The invocation lost its worker too often";
    KeyReused = "execution/key-reused", 422, "The key was used with another body";
    RecordRefused = "execution/record-refused", 422, "The database refused the record";
    DeadLetterNotFound = "execution/dead-letter-not-found", 404, "There is no such dead letter";
    DeadLetterSettled = "execution/dead-letter-settled", 409, "The dead letter is settled already";
    Moved = "execution/moved", 503, "Another process owns the shard now";
    Stale = "execution/stale", 409, "The record is of an older epoch";
    Conflict = "execution/conflict", 409, "The step has another result already";
    SessionBusy = "execution/session-busy", 409, "The session has an open invocation";
    Ambiguous = "execution/ambiguous", 409, "Nobody knows whether the step happened";
    Diverged = "execution/diverged", 409, "The recording is not what the agent would do";
    Paused = "execution/paused", 409, "That is paused";
    ApprovalNotFound = "execution/approval-not-found", 404, "Nothing waits for that decision";
    Denied = "execution/denied", 403, "A person denied the call";
    ToolInvalid = "tool/invalid-arguments", 422, "The tool does not take these arguments";
    ToolFailed = "tool/failed", 502, "The tool failed";
    ToolRefused = "tool/refused", 403, "The tool may not do that";
    DatabaseWentBack = "execution/database-went-back", 503, "The database is older than its feed";
    ChannelNotFound = "messaging/channel-not-found", 404, "There is no such channel";
    MessageConflict = "messaging/message-conflict", 409, "A message of this id has another body";
    MemoryNotFound = "memory/memory-not-found", 404, "There is no such memory";
    MemoryStale = "memory/memory-stale", 412, "The memory was changed meanwhile";
    DocumentNotFound = "memory/document-not-found", 404, "There is no such document";
    DocumentUnreadable = "memory/document-unreadable", 422, "The document cannot be read";
    FetchFailed = "memory/fetch-failed", 422, "The URL cannot be fetched";
    ModelDimensions = "memory/model-dimensions", 400, "A vector of this model has other dimensions";
    MemoryConflict = "memory/memory-conflict", 409, "A memory of this id has another body";
    EmbedderUnavailable = "memory/embedder-unavailable", 503, "The embedder is not available";
    ModelNotFound = "inference/model-not-found", 404, "There is no such model";
    ModelBusy = "inference/model-busy", 429, "The model takes no more calls now";
    ModelFailed = "inference/model-failed", 502, "The model's provider failed";
    TunnelNotFound = "gateway/tunnel-not-found", 404, "There is no such tunnel";
    TunnelClosed = "gateway/tunnel-closed", 503, "The tunnel was closed";
    ExchangeExists = "gateway/exchange-exists", 409, "An exchange of this id is open";
    NodeOffline = "gateway/node-offline", 503, "The node is not online";
    NodeSilent = "gateway/node-silent", 504, "The node does not answer";
    ModelRefused = "inference/model-refused", 422, "The model's provider refused the request";
    ProviderNotConfigured = "inference/provider-not-configured", 409, "The provider is not configured";
    NotImplemented = "mesh/not-available-yet", 501, "That is not available yet";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
    }
}

impl From<crate::name::NameError> for Problem {
    fn from(error: crate::name::NameError) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl From<crate::id::IdError> for Problem {
    fn from(error: crate::id::IdError) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_type_of_its_own() {
        let mut kinds: Vec<_> = Code::ALL.iter().map(|code| code.row().0).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Code::ALL.len());
    }

    #[test]
    fn a_problem_survives_its_json() {
        let problem = Problem::new(Code::AgentNotFound, "no agent `x`")
            .field("agent")
            .next("mesh get agents");
        let json = serde_json::to_string(&problem).unwrap();
        assert!(json.contains(r#""type":"registry/agent-not-found""#));
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);
    }
}
