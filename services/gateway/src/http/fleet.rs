//! `/api/v1/services` and `/api/v1/tenants`: what the mesh consists of.

use std::time::Duration;

use axum::extract::State;
use mesh_api::registry::{TenantList, TenantView};
use mesh_api::{Caller, Page, PageQuery};
use mesh_bus::{EndpointStats, ServiceStats};
use mesh_types::{Code, Timestamp};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Who};
use super::problem::Failure;
use crate::state::App;

/// How long services are listened for: on one machine they answer within a millisecond.
const DISCOVERY: Duration = Duration::from_millis(250);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(services)).routes(routes!(tenants))
}

/// One process's share of a service, counted since its start.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ServiceView {
    name: String,
    instance: String,
    version: String,
    started_at: Timestamp,
    requests: u64,
    errors: u64,
    endpoints: Vec<EndpointView>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EndpointView {
    name: String,
    requests: u64,
    errors: u64,
    /// Status and type of the last problem; empty where there was none.
    last_error: String,
    average_ms: f64,
    /// Time that 99 of 100 took at most, to a quarter of it, since its start; absent where nobody counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
}

/// Services that answer on the bus now, one entry for each process that serves one.
#[utoipa::path(get, path = "/api/v1/services", operation_id = "list_services", tag = "fleet",
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<ServiceView>)))]
async fn services(
    State(app): State<App>,
    Who(_caller): Who,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<Page<ServiceView>>, Failure> {
    let found = app.bus.discover(DISCOVERY).await.map_err(|error| {
        tracing::warn!(%error, "the services could not be asked for");
        Failure::new(Code::Unavailable, "the bus is not available at the moment")
    })?;
    let items = found.into_iter().map(ServiceView::from).collect();
    Ok(Json(Page { items, next: None }))
}

/// All tenants, by name; the credential's own, where credentials are demanded.
#[utoipa::path(get, path = "/api/v1/tenants", operation_id = "list_tenants", tag = "fleet", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<TenantView>)))]
async fn tenants(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TenantView>>, Failure> {
    if app.desk.requires_credentials() {
        let items = own_tenant(&app, &caller).await?.into_iter().collect();
        return Ok(Json(Page { items, next: None }));
    }
    app.call::<TenantList>(&caller, &page).await.map(Json)
}

async fn own_tenant(app: &App, caller: &Caller) -> Result<Option<TenantView>, Failure> {
    let mut page = PageQuery {
        limit: Some(mesh_api::page::LIMIT_MAX),
        after: None,
    };
    loop {
        let read = app.call::<TenantList>(caller, &page).await?;
        let found = read.items.into_iter().find(|tenant| tenant.name == caller.tenant);
        if found.is_some() || read.next.is_none() {
            return Ok(found);
        }
        page.after = read.next;
    }
}

impl From<ServiceStats> for ServiceView {
    fn from(stats: ServiceStats) -> Self {
        let sum = |count: fn(&EndpointStats) -> u64| stats.endpoints.iter().map(count).sum();
        Self {
            requests: sum(|endpoint| endpoint.num_requests),
            errors: sum(|endpoint| endpoint.num_errors),
            name: stats.name,
            instance: stats.id,
            version: stats.version,
            started_at: stats.started,
            endpoints: stats.endpoints.into_iter().map(EndpointView::from).collect(),
        }
    }
}

impl From<EndpointStats> for EndpointView {
    fn from(stats: EndpointStats) -> Self {
        Self {
            name: stats.name,
            requests: stats.num_requests,
            errors: stats.num_errors,
            last_error: stats.last_error,
            average_ms: milliseconds(stats.average_processing_time),
            p99_ms: Some(stats.data.p99_nanoseconds)
                .filter(|p99| *p99 > 0)
                .map(milliseconds),
        }
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}
