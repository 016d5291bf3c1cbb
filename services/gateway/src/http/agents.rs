//! `/api/v1/agents`: declared agents, their versions, what is published. Writes are guarded by `ETag` and `If-Match`.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_api::registry::{
    AgentCreate, AgentDelete, AgentDeleted, AgentGet, AgentGuarded, AgentList, AgentPublish, AgentRequest,
    AgentRollback, AgentUpdate, AgentUpdateRequest, AgentVersions, AgentView, Missing, Published, RollbackRequest,
    VersionView, VersionsRequest,
};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::AgentName;
use mesh_types::agent::Agent;
use serde::Deserialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{
    FromParams, Json, NoFields, Nothing, OptionalJson, Params, Query, Segment, TENANT_HEADER, Who, header_text,
};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(publish))
        .routes(routes!(versions))
        .routes(routes!(rollback))
}

/// All agents of the tenant, by name.
#[utoipa::path(get, path = "/api/v1/agents", operation_id = "list_agents", tag = "agents", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<AgentView>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<AgentView>>, Failure> {
    app.call::<AgentList>(&caller, &page).await.map(Json)
}

/// Declares a new agent. Also takes the flat form (`name`, `docker_image`, `cpu_limit`, `memory_limit`, `env_vars`).
#[utoipa::path(post, path = "/api/v1/agents", operation_id = "create_agent", tag = "agents", request_body = Agent,
    security(("credential" = ["developer"])),
    responses((status = 201, body = AgentView, headers(("ETag" = String), ("Location" = String)))))]
async fn create(
    State(app): State<App>,
    who: Who,
    headers: HeaderMap,
    Query(Nothing): Query<Nothing>,
    Json(body): Json<Value>,
) -> Result<Response, Failure> {
    let agent = Agent::from_json(body)?;
    let caller = tenant_of(&app, who, &headers, &agent).await?;
    let view = app.call::<AgentCreate>(&caller, &agent).await?;
    let location = format!("/api/v1/agents/{}", view.metadata.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], tagged(view)).into_response())
}

/// One agent. Its `ETag` is of what was declared, for a later `If-Match`: the status changes without it.
#[utoipa::path(get, path = "/api/v1/agents/{agent}", operation_id = "get_agent", tag = "agents", params(("agent" = AgentName, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = AgentView, headers(("ETag" = String)))))]
async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, Failure> {
    app.call::<AgentGet>(&caller, &AgentRequest { agent }).await.map(tagged)
}

/// Replaces a declared agent. `If-Match` guards against losing another's change; `?missing=create` makes it if it
/// does not exist.
#[utoipa::path(put, path = "/api/v1/agents/{agent}", operation_id = "replace_agent", tag = "agents",
    params(("agent" = AgentName, Path), ("If-Match" = Option<String>, Header, description = "ETag that must still hold"),
        ("missing" = Option<String>, Query, description = "`refuse` (default) or `create`")),
    request_body = Agent,
    security(("credential" = ["developer"])),
    responses((status = 200, body = AgentView, headers(("ETag" = String)))))]
async fn update(
    State(app): State<App>,
    who: Who,
    Segment(name): Segment<AgentName>,
    Query(IfMissing(missing)): Query<IfMissing>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Response, Failure> {
    let agent = Agent::from_json(body)?;
    if agent.metadata.name != name {
        let detail = format!(
            "the path names `{name}`, the body `{}`: an agent cannot be renamed",
            agent.metadata.name
        );
        return Err(Failure::invalid("metadata.name", detail));
    }
    let caller = tenant_of(&app, who, &headers, &agent).await?;
    let request = AgentUpdateRequest {
        agent,
        if_match: if_match(&headers)?,
        missing,
    };
    app.call::<AgentUpdate>(&caller, &request).await.map(tagged)
}

/// Deletes an agent: no new invocation starts, open ones keep their version.
#[utoipa::path(delete, path = "/api/v1/agents/{agent}", operation_id = "delete_agent", tag = "agents",
    params(("agent" = AgentName, Path), ("If-Match" = Option<String>, Header)),
    security(("credential" = ["developer"])),
    responses((status = 200, body = AgentDeleted)))]
async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
) -> Result<Json<AgentDeleted>, Failure> {
    let request = AgentGuarded {
        agent,
        if_match: if_match(&headers)?,
    };
    app.call::<AgentDelete>(&caller, &request).await.map(Json)
}

/// Makes the declared agent the version that new invocations run. Done only when its artifact is durably stored.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/publish", operation_id = "publish_agent", tag = "agents",
    params(("agent" = AgentName, Path), ("If-Match" = Option<String>, Header)),
    security(("credential" = ["developer"])),
    responses((status = 200, body = Published)))]
async fn publish(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
    OptionalJson(NoFields {}): OptionalJson<NoFields>,
) -> Result<Json<Published>, Failure> {
    let request = AgentGuarded {
        agent,
        if_match: if_match(&headers)?,
    };
    app.call::<AgentPublish>(&caller, &request).await.map(Json)
}

/// Published versions, newest first. A version never changes.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/versions", operation_id = "list_agent_versions", tag = "agents",
    params(("agent" = AgentName, Path), PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<VersionView>)))]
async fn versions(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<VersionView>>, Failure> {
    app.call::<AgentVersions>(&caller, &VersionsRequest { agent, page })
        .await
        .map(Json)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Rollback {
    version: u32,
}

/// Makes an older version the published one.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/rollback", operation_id = "roll_back_agent", tag = "agents", params(("agent" = AgentName, Path)),
    request_body = Rollback,
    security(("credential" = ["developer"])),
    responses((status = 200, body = Published)))]
async fn rollback(
    State(app): State<App>,
    Who(caller): Who,
    Segment(agent): Segment<AgentName>,
    Query(Nothing): Query<Nothing>,
    Json(Rollback { version }): Json<Rollback>,
) -> Result<Json<Published>, Failure> {
    app.call::<AgentRollback>(&caller, &RollbackRequest { agent, version })
        .await
        .map(Json)
}

struct IfMissing(Missing);

impl FromParams for IfMissing {
    const NAMES: &'static [&'static str] = &["missing"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        match params.take::<String>("missing")?.as_deref() {
            None | Some("refuse") => Ok(Self(Missing::Refuse)),
            Some("create") => Ok(Self(Missing::Create)),
            Some(_) => Err(Failure::invalid("missing", "missing must be `refuse` or `create`")),
        }
    }
}

/// The tenant is the request's; where the header does not say one, the declared object may.
async fn tenant_of(app: &App, who: Who, headers: &HeaderMap, agent: &Agent) -> Result<Caller, Failure> {
    let Some(declared) = &agent.metadata.tenant else {
        return Ok(who.0);
    };
    if !headers.contains_key(TENANT_HEADER) {
        return who.of_tenant(app, Some(declared.clone())).await;
    }
    if *declared != who.0.tenant {
        let detail = format!(
            "the object is of tenant `{declared}`, the request of `{}`",
            who.0.tenant
        );
        return Err(Failure::invalid("metadata.tenant", detail));
    }
    Ok(who.0)
}

/// The one ETag that must still hold; `None` where any will do.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let tags = etags(header_text(headers, header::IF_MATCH.as_str())?);
    match tags.as_slice() {
        [] => Ok(None),
        // Any version will do; that one exists is checked anyway.
        [any] if any == "*" => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(Failure::invalid("If-Match", "name one ETag")),
    }
}

/// Entity tags of a header, without quotes and the mark of weakness that compressing proxies add.
fn etags(header: Option<&str>) -> Vec<String> {
    let parts = header
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|tag| tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned())
        .collect()
}

fn tagged(view: AgentView) -> Response {
    let etag = view.status.etag.clone();
    let mut response = Json(view).into_response();
    set_etag(&mut response, &etag);
    response
}

pub(super) fn set_etag(response: &mut Response, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_lose_quotes_and_weakness() {
        assert_eq!(etags(Some(r#""a", W/"b",*"#)), ["a", "b", "*"]);
        assert!(etags(None).is_empty());
    }
}
