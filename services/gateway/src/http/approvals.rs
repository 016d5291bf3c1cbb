//! `/api/v1/approvals`: what waits for a person, and the decision.

use std::str::FromStr;

use axum::extract::State;
use mesh_api::execution::Invocation;
use mesh_api::steering::{Approval, ApprovalDecide, ApprovalList, ApprovalListRequest, DecideRequest, Decision};
use mesh_api::{Page, PageQuery};
use mesh_types::{Code, InvocationId, Problem};
use serde::Deserialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Nothing, Query, Segment, Who};
use super::problem::Failure;
use crate::state::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(decide))
}

/// Tool calls that wait for a person's yes, and steps of which nobody knows whether they happened; oldest first.
#[utoipa::path(get, path = "/api/v1/approvals", operation_id = "list_approvals", tag = "approvals", params(PageQuery),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = Page<Approval>)))]
async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Approval>>, Failure> {
    app.call::<ApprovalList>(&caller, &ApprovalListRequest { page })
        .await
        .map(Json)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Decided {
    decision: Decision,
    /// For the journal; the agent reads it with a denial.
    #[serde(default)]
    note: Option<String>,
    /// Of an ambiguous step: it happened, and this is its result.
    #[serde(default)]
    output: Option<Value>,
}

/// Decides. `approve` lets a call run (an ambiguous one: again, or with `output` takes it as done); `deny` fails it.
#[utoipa::path(post, path = "/api/v1/approvals/{id}", operation_id = "decide_approval", tag = "approvals",
    params(("id" = String, Path, description = "`<invocation>-<step>`", example = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-3")),
    request_body = Decided,
    security(("credential" = ["operator"])),
    responses((status = 200, body = Invocation)))]
async fn decide(
    State(app): State<App>,
    Who(caller): Who,
    Segment(ApprovalId { invocation, step }): Segment<ApprovalId>,
    Query(Nothing): Query<Nothing>,
    Json(decided): Json<Decided>,
) -> Result<Json<Invocation>, Failure> {
    let request = DecideRequest {
        invocation,
        step,
        decision: decided.decision,
        note: decided.note,
        output: decided.output,
    };
    app.call::<ApprovalDecide>(&caller, &request).await.map(Json)
}

/// `<invocation>-<step>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ApprovalId {
    invocation: InvocationId,
    step: u32,
}

impl FromStr for ApprovalId {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parts = text.rsplit_once('-').and_then(|(invocation, step)| {
            let (invocation, step) = (invocation.parse().ok()?, step.parse().ok()?);
            Some(Self { invocation, step })
        });
        // One request has one spelling, and steps are counted from 1.
        parts
            .filter(|id| id.step > 0 && format!("{}-{}", id.invocation, id.step) == text)
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                Problem::new(
                    Code::InvalidName,
                    format!("`{shown}` is no id of a request for approval"),
                )
                .next("it is <invocation>-<step>, as GET /api/v1/approvals lists it")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_invocation_and_step() {
        let id: ApprovalId = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-12".parse().unwrap();
        assert_eq!(
            (id.invocation.to_string().as_str(), id.step),
            ("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", 12)
        );
        for wrong in [
            "",
            "-1",
            "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-",
        ] {
            assert!(wrong.parse::<ApprovalId>().is_err(), "{wrong}");
        }
        for step in ["0", "01", "+1", "4294967296", "x"] {
            let wrong = format!("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-{step}");
            assert!(wrong.parse::<ApprovalId>().is_err(), "{wrong}");
        }
    }
}
