//! `/internal/llm/proxy`: one model call in the replaced proxy's shape.

use axum::extract::State;
use mesh_api::inference::{CompleteRequest, Completion, PromptMessage, Role};
use mesh_types::content::Content;
use mesh_types::{Problem, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::extract::{Json, Who};
use crate::http::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(llm_proxy))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct KeptPrompt {
    model: String,
    messages: Vec<KeptPromptMessage>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct KeptPromptMessage {
    role: Role,
    content: Content,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeptCompletion {
    content: String,
    usage: KeptUsage,
    provider: String,
    model_resolved: String,
    latency_ms: f64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct KeptUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// One model call.
#[utoipa::path(post, path = "/internal/llm/proxy", operation_id = "kept_llm_proxy", tag = "kept", request_body = KeptPrompt,
    security(("credential" = ["service"])),
    responses((status = 200, body = KeptCompletion)))]
async fn llm_proxy(
    State(app): State<App>,
    who: Who,
    Json(body): Json<KeptPrompt>,
) -> Result<Json<KeptCompletion>, Failure> {
    let metadata = body.metadata.unwrap_or_default();
    let tenant = metadata
        .get("microdao_id")
        .and_then(Value::as_str)
        .map(str::parse::<Tenant>)
        .transpose();
    let caller = who
        .of_tenant(
            &app,
            tenant.map_err(|error| Problem::from(error).field("metadata.microdao_id"))?,
        )
        .await?;
    let messages = body
        .messages
        .into_iter()
        .map(|message| PromptMessage::new(message.role, message.content));
    let request = CompleteRequest {
        model: body.model,
        fallbacks: Vec::new(),
        messages: messages.collect(),
        temperature: body.temperature,
        max_tokens: body.max_tokens,
        idempotency_key: None,
        tools: Vec::new(),
        response_schema: None,
        cache: false,
        agent: None,
        metadata,
    };
    if request.messages.is_empty() {
        return Err(Failure::invalid("messages", "messages must hold at least one message"));
    }
    let started = app.clock.monotonic();
    let Completion {
        text,
        model,
        provider,
        usage,
        ..
    } = app.complete(&caller, &request).await?;
    let latency_ms = app.clock.monotonic().saturating_sub(started).as_secs_f64() * 1_000.0;
    let usage = KeptUsage {
        prompt_tokens: usage.input_tokens,
        completion_tokens: usage.output_tokens,
        total_tokens: usage.input_tokens + usage.output_tokens,
    };
    Ok(Json(KeptCompletion {
        content: text,
        usage,
        provider,
        model_resolved: model,
        latency_ms,
    }))
}
