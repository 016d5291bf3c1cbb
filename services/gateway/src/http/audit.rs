//! `/api/v1/audit`: who did what, and whether the record of it is whole.

use axum::extract::State;
use mesh_api::audit::{AuditVerified, AuditVerify, AuditVerifyRequest};
use mesh_api::identity::{AuditFact, AuditList, AuditOutcome, AuditQuery};
use mesh_api::{Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Json, Params, Query, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(audit))
}

/// The walk over a long chain takes its time.
pub(super) fn long_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(verify))
}

/// Who did, or tried, what, newest first; who is no administrator sees what he did himself.
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "list_audit", tag = "credentials",
    params(("outcome" = Option<AuditOutcome>, Query), ("action" = Option<String>, Query), PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<AuditFact>)))]
async fn audit(
    State(app): State<App>,
    Who(caller): Who,
    Query(Asked(query)): Query<Asked>,
) -> Result<Json<Page<AuditFact>>, Failure> {
    app.call::<AuditList>(&caller, &query).await.map(Json)
}

/// Computes the audit's chain of hashes again, from its oldest kept fact to its head. Keep the answer's `head` somewhere
/// else and give it as `noted` the next time: then a chain that was written anew shows, too.
#[utoipa::path(get, path = "/api/v1/audit/verify", operation_id = "verify_audit", tag = "credentials",
    security(("credential" = ["owner"])),
    params(("noted" = Option<String>, Query, description = "A head from before: `<seq>:<hash in hex>`")),
    responses((status = 200, body = AuditVerified)))]
async fn verify(
    State(app): State<App>,
    Who(caller): Who,
    Query(Noted(request)): Query<Noted>,
) -> Result<Json<AuditVerified>, Failure> {
    app.call::<AuditVerify>(&caller, &request).await.map(Json)
}

struct Noted(AuditVerifyRequest);

impl FromParams for Noted {
    const NAMES: &'static [&'static str] = &["noted"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let noted = params.take("noted")?;
        Ok(Self(AuditVerifyRequest { noted }))
    }
}

struct Asked(AuditQuery);

impl FromParams for Asked {
    const NAMES: &'static [&'static str] = &["outcome", "action", "limit", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let outcome = match params.take::<String>("outcome")?.as_deref() {
            None => None,
            Some("done") => Some(AuditOutcome::Done),
            Some("refused") => Some(AuditOutcome::Refused),
            Some(_) => return Err(Failure::invalid("outcome", "outcome must be done or refused")),
        };
        Ok(Self(AuditQuery {
            outcome,
            action: params.take("action")?,
            page: PageQuery::from_params(params)?,
        }))
    }
}
