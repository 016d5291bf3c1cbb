//! Problems in OpenAI's shape, for everything below `/v1/`, whoever refused it.

use mesh_types::{Code, Problem};
use serde_json::{Value, json};

/// `None`: the path is not one of OpenAI's.
pub(in crate::http) fn body(path: &str, problem: &Problem) -> Option<Value> {
    path.starts_with("/v1/").then(|| error(problem))
}

/// `{"error":{"message","type","param","code"}}`.
pub(super) fn error(problem: &Problem) -> Value {
    let next = problem.next.as_ref().map(|next| format!(" ({next})"));
    let message = format!("{}{}", problem.detail, next.unwrap_or_default());
    let kind = match problem.status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": param(problem), "code": code(problem)}})
}

/// Where the client wrote it: an agent's loop says `payload.messages`.
fn param(problem: &Problem) -> Option<String> {
    let field = problem.field.as_deref()?;
    let field = field.strip_prefix("payload.").unwrap_or(field);
    Some(match field.strip_prefix("client_tools") {
        Some(rest) => format!("tools{rest}"),
        None => field.strip_prefix("model_options.").unwrap_or(field).to_owned(),
    })
}

/// The words that clients of OpenAI's look for; else the last word of the problem's type.
fn code(problem: &Problem) -> &str {
    if problem.is(Code::Unauthorized) {
        "invalid_api_key"
    } else if problem.is(Code::AgentNotFound) || problem.is(Code::AgentNotPublished) {
        "model_not_found"
    } else {
        problem.kind.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_in_openais_words() {
        let problem = Problem::new(Code::AgentNotFound, "no agent `x`")
            .field("model")
            .next("GET /v1/models");
        let expected = json!({"error": {"message": "no agent `x` (GET /v1/models)", "type": "invalid_request_error",
            "param": "model", "code": "model_not_found"}});
        assert_eq!(error(&problem), expected);
        assert_eq!(body("/api/v1/agents", &problem), None);
        let key = error(&Problem::new(Code::Unauthorized, "no"));
        assert_eq!(
            (&key["error"]["type"], &key["error"]["code"], &key["error"]["param"]),
            (&json!("authentication_error"), &json!("invalid_api_key"), &Value::Null)
        );
        let tools = Problem::new(Code::InvalidRequest, "no").field("payload.client_tools[0].function.name");
        assert_eq!(error(&tools)["error"]["param"], "tools[0].function.name");
    }
}
