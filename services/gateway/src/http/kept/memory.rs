//! `/internal/agent-memory`: the replaced memory service's two questions.

use axum::extract::State;
use mesh_api::memory::{Hit, MemoryQuery, MemoryStore, MemoryType, QueryRequest, StoreRequest};
use mesh_types::{AgentName, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::extract::{Json, Who};
use crate::http::memories::check_k;
use crate::http::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(query_memory))
        .routes(routes!(store_memory))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct KeptQuery {
    agent_id: AgentName,
    #[serde(default)]
    microdao_id: Option<Tenant>,
    query: String,
    /// Hits wanted, 1 to 100; `limit` says the same.
    #[serde(default)]
    k: Option<u32>,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeptHits {
    items: Vec<KeptHit>,
    /// The same list under the name that other clients read.
    results: Vec<KeptHit>,
    total: usize,
    query: String,
}

#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct KeptHit {
    id: String,
    kind: MemoryType,
    score: f64,
    content: String,
    meta: Map<String, Value>,
    created_at: mesh_types::Timestamp,
}

/// What an agent remembers of a question.
#[utoipa::path(post, path = "/internal/agent-memory/query", operation_id = "kept_query_memory", tag = "kept", request_body = KeptQuery,
    security(("credential" = ["service"])),
    responses((status = 200, body = KeptHits)))]
async fn query_memory(
    State(app): State<App>,
    who: Who,
    Json(body): Json<KeptQuery>,
) -> Result<Json<KeptHits>, Failure> {
    let caller = who.of_tenant(&app, body.microdao_id).await?;
    let k = body.k.or(body.limit).unwrap_or(5);
    check_k(k)?;
    let request = QueryRequest::new(body.agent_id, body.query.clone(), k);
    let reply = app.call::<MemoryQuery>(&caller, &request).await?;
    let items: Vec<KeptHit> = reply.items.into_iter().map(kept_hit).collect();
    Ok(Json(KeptHits {
        results: items.clone(),
        total: items.len(),
        items,
        query: body.query,
    }))
}

fn kept_hit(hit: Hit) -> KeptHit {
    let Hit { memory, score, .. } = hit;
    let (content, meta) = (memory.content, memory.metadata);
    KeptHit {
        id: memory.id.to_string(),
        kind: memory.kind,
        score,
        content,
        meta,
        created_at: memory.created_at,
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct KeptStore {
    agent_id: AgentName,
    #[serde(default)]
    microdao_id: Option<Tenant>,
    /// `{"user_message","agent_reply"}`, or text.
    content: Value,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeptStored {
    ok: bool,
    #[schema(example = "mem_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: String,
}

/// Stores an exchange as a memory of the agent.
#[utoipa::path(post, path = "/internal/agent-memory/store", operation_id = "kept_store_memory", tag = "kept", request_body = KeptStore,
    security(("credential" = ["service"])),
    responses((status = 200, body = KeptStored)))]
async fn store_memory(
    State(app): State<App>,
    who: Who,
    Json(body): Json<KeptStore>,
) -> Result<Json<KeptStored>, Failure> {
    let caller = who.of_tenant(&app, body.microdao_id).await?;
    let (content, metadata) = remembered(body.content)?;
    let mut request: StoreRequest = mesh_types::json::from_value(json!({"agent": body.agent_id, "content": content}))?;
    request.metadata = metadata;
    let memory = app.call::<MemoryStore>(&caller, &request).await?;
    Ok(Json(KeptStored {
        ok: true,
        id: memory.id.to_string(),
    }))
}

/// The text to embed, and the exchange as it came.
fn remembered(content: Value) -> Result<(String, Map<String, Value>), Failure> {
    let wrong = || Failure::invalid("content", "content must be text or {\"user_message\",\"agent_reply\"}");
    match content {
        Value::String(text) => Ok((text, Map::new())),
        Value::Object(exchange) => {
            let part = |name: &str| exchange.get(name).and_then(Value::as_str);
            let text = match (part("user_message"), part("agent_reply")) {
                (Some(user), Some(agent)) => format!("User: {user}\nAgent: {agent}"),
                (Some(one), None) | (None, Some(one)) => one.to_owned(),
                (None, None) => return Err(wrong()),
            };
            Ok((text, exchange))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_becomes_text_and_is_kept() {
        let exchange = json!({"user_message": "hi", "agent_reply": "hello"});
        let (text, kept) = remembered(exchange.clone()).unwrap();
        assert_eq!(text, "User: hi\nAgent: hello");
        assert_eq!(Value::Object(kept), exchange);
        assert_eq!(remembered(json!("plain")).unwrap().0, "plain");
        for wrong in [json!(1), json!(null), json!({}), json!({"user_message": 5})] {
            assert_eq!(remembered(wrong).unwrap_err().0.field.as_deref(), Some("content"));
        }
    }
}
