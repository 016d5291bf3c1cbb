//! `/api/v1/plan`, `/api/v1/passes`, `/api/v1/brain/state`: the caller reaches the reconciler, its answer comes back whole.

use mesh_api::reconciler::{Brain, BrainState, Pass, PassList, PlanDry, Seen};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::Timestamp;
use serde_json::json;

use crate::support::{Edge, json_of, problem};

fn pass(because: String) -> Pass {
    Pass {
        id: None,
        at: Timestamp::from_millis(1_795_258_800_000),
        because,
        seen: Seen::default(),
        actions: Vec::new(),
        more: 3,
        took_ms: 0.5,
        error: None,
        next_try_at: None,
    }
}

#[tokio::test]
async fn plan_passes_and_state_come_from_the_reconciler() {
    let edge = Edge::start().await;
    let without = edge.post("/api/v1/plan", &json!({})).send().await.unwrap();
    assert_eq!(problem(without).await["type"], "mesh/unavailable");
    let state = |caller: Caller| Brain {
        at: Timestamp::EPOCH,
        leader: Some(caller.tenant.to_string()),
        epoch: 4,
        services: Vec::new(),
        nodes: Vec::new(),
        agents: Vec::new(),
        replicas: Vec::new(),
        drift: vec!["place sofia".to_owned()],
        passes: Vec::new(),
    };
    let reconciler = edge
        .bus
        .service("reconciler", "0.1.0")
        .endpoint::<PlanDry, _, _>(|caller: Caller, _| async move { Ok(pass(caller.tenant.to_string())) })
        .endpoint::<PassList, _, _>(|_caller, page: PageQuery| async move {
            let items = vec![pass(format!("{:?} {:?}", page.limit, page.after))];
            Ok(Page { items, next: None })
        })
        .endpoint::<BrainState, _, _>(move |caller, _| async move { Ok(state(caller)) });
    let _serving = reconciler.start().await.unwrap();
    let planned = edge
        .request(reqwest::Method::POST, "/api/v1/plan")
        .header("mesh-tenant", "daarion");
    let planned = json_of(planned.send().await.unwrap()).await;
    assert_eq!((&planned["because"], &planned["more"]), (&json!("daarion"), &json!(3)));
    let passes = json_of(edge.get("/api/v1/passes?limit=7&after=x").send().await.unwrap()).await;
    assert_eq!(passes["items"][0]["because"], "Some(7) Some(\"x\")");
    let brain = json_of(edge.get("/api/v1/brain/state").send().await.unwrap()).await;
    assert_eq!(
        (&brain["epoch"], &brain["drift"][0]),
        (&json!(4), &json!("place sofia"))
    );
    let unknown = edge.get("/api/v1/brain/state?x=1").send().await.unwrap();
    assert_eq!(problem(unknown).await["status"], 400);
}
