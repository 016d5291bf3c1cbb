//! Tools of kind `http`, and the builtin `http_get`.

use mesh_types::Problem;
use mesh_types::tool::{ToolCall, ToolReply, ToolSpec};
use reqwest::Method;
use serde_json::{Value, json};

use crate::failure;
use crate::web::{self, Ask, Web};

const ACCEPT_RESULT: &str = "application/json, text/plain;q=0.9, */*;q=0.5";
const ACCEPT_PAGE: &str = "text/html, text/plain, application/json, */*;q=0.5";

/// POST of the arguments; the answer is the result.
pub(crate) async fn post(web: &Web, tool: &ToolSpec, call: &ToolCall, bytes_max: usize) -> Result<ToolReply, Problem> {
    let url = tool
        .url
        .as_deref()
        .ok_or_else(|| failure::permanent("the tool has no URL"))?;
    let ask = Ask {
        method: Method::POST,
        url,
        accept: ACCEPT_RESULT,
        idempotency_key: Some(&call.idempotency_key),
        body: Some(call.arguments.to_string().into_bytes()),
        hosts: None,
    };
    let response = web::successful(web.send(ask).await?).await?;
    Ok(ToolReply::of(result(response, bytes_max).await?))
}

/// JSON where the answer says so, else text; nothing is `null`.
pub(crate) async fn result(response: reqwest::Response, bytes_max: usize) -> Result<Value, Problem> {
    let content_type = web::content_type(&response);
    let (bytes, is_cut) = web::read(response, bytes_max).await?;
    if is_cut {
        return Err(failure::too_long(bytes_max));
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if web::is_json(&content_type) {
        return serde_json::from_slice(&bytes)
            .map_err(|error| failure::permanent(format!("the answer says JSON and is not: {error}")));
    }
    Ok(Value::String(web::decoded(&bytes, &content_type)))
}

/// GET of a page on a listed host, cut where it is too long; any status is an answer.
pub(crate) async fn get(web: &Web, tool: &ToolSpec, call: &ToolCall, bytes_max: usize) -> Result<ToolReply, Problem> {
    let url = call.arguments.get("url").and_then(Value::as_str);
    let url = url.ok_or_else(|| failure::permanent("`url` must be a string"))?;
    let ask = Ask {
        method: Method::GET,
        url,
        accept: ACCEPT_PAGE,
        idempotency_key: None,
        body: None,
        hosts: Some(&tool.allow),
    };
    let response = web.send(ask).await?;
    let (status, content_type) = (response.status().as_u16(), web::content_type(&response));
    let (bytes, is_cut) = web::read(response, bytes_max).await?;
    let mut output = json!({
        "status": status,
        "content_type": failure::quoted(&content_type),
        "text": web::decoded(&bytes, &content_type),
    });
    if is_cut {
        output["truncated"] = true.into();
    }
    Ok(ToolReply::of(output))
}
