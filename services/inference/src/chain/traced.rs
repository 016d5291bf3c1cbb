//! Spans of the tries at providers, by OpenTelemetry's conventions for generative AI. Nothing of what was asked or said.

use mesh_api::inference::CompleteRequest;
use mesh_models::{Tokens, TryError};
use mesh_trace::{Kind, Span};
use tokio::time::error::Elapsed;

use crate::providers::Route;

/// One try at a model; `attempt` counts from 1.
pub(super) fn chat(route: &Route<'_>, asked: &CompleteRequest, attempt: u32) -> Span {
    let mut span = of_model("chat", route, attempt);
    if let Some(temperature) = asked.temperature {
        span.set("gen_ai.request.temperature", temperature);
    }
    if let Some(tokens) = asked.max_tokens {
        span.set("gen_ai.request.max_tokens", tokens);
    }
    span
}

/// One try at vectors.
pub(super) fn embeddings(route: &Route<'_>, attempt: u32) -> Span {
    of_model("embeddings", route, attempt)
}

fn of_model(operation: &'static str, route: &Route<'_>, attempt: u32) -> Span {
    let mut span = Span::child(Kind::Client, || format!("{operation} {}", route.model));
    span.set("gen_ai.operation.name", operation);
    span.set("gen_ai.provider.name", route.provider_name);
    span.set("gen_ai.request.model", route.model.as_str());
    span.set("mesh.attempt", attempt);
    span
}

/// With what the provider counted.
pub(super) fn ended<T>(span: &mut Span, ended: &Result<Result<T, TryError>, Elapsed>, tokens: Option<Tokens>) {
    if let Some(tokens) = tokens {
        span.set("gen_ai.usage.input_tokens", tokens.input);
        span.set("gen_ai.usage.output_tokens", tokens.output);
        span.set("gen_ai.usage.cache_read.input_tokens", tokens.cached);
    }
    match ended {
        Ok(Ok(_)) => {}
        Ok(Err(TryError::Status { status, .. })) => {
            span.set("http.response.status_code", *status);
            span.fail(&status.to_string());
        }
        Ok(Err(error)) => span.fail(kind(error)),
        Err(_) => span.fail("timeout"),
    }
}

/// A word for it; its text is the provider's.
const fn kind(error: &TryError) -> &'static str {
    match error {
        TryError::Connection(_) => "connection",
        TryError::Timeout(_) => "timeout",
        TryError::Status { .. } => "status",
        TryError::Cut => "cut",
        TryError::Protocol(_) => "protocol",
        TryError::TooLarge(_) => "too_large",
        TryError::Unsupported(_) => "unsupported",
    }
}
