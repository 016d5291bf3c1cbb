//! Routes of steering: what reaches `execution` and what comes back; bad requests are refused before it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cases::{Case, get, posted, run};
use crate::made::the_invocation;
use crate::steered::the_fork;
use crate::support::{Edge, json_of, problem};

const SOME_ID: &str = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn of_invocation(what: &str) -> String {
    format!("/api/v1/invocations/{}/{what}", the_invocation())
}

impl Edge {
    async fn posts(&self, path: &str, body: &Value) -> Value {
        json_of(self.post(path, body).send().await.unwrap()).await
    }
}

#[tokio::test]
async fn each_thing_that_can_be_paused_has_a_route() {
    let edge = Edge::start().await;
    let invocation = json!({"invocation": the_invocation()});
    for (path, body, target) in [
        (
            "/api/v1/pause",
            json!({"target": "tenant", "reason": "r"}),
            json!("tenant"),
        ),
        ("/api/v1/pause", json!({"target": "all", "reason": "r"}), json!("all")),
        (
            "/api/v1/pause",
            json!({"target": {"agent": "sofia"}, "reason": "r"}),
            json!({"agent": "sofia"}),
        ),
        (
            "/api/v1/agents/agent:sofia/pause",
            json!({"reason": "r"}),
            json!({"agent": "sofia"}),
        ),
        (&of_invocation("pause"), json!({"reason": "r"}), invocation),
    ] {
        for (verb, is_paused) in [("pause", true), ("resume", false)] {
            let view = edge.posts(&path.replace("pause", verb), &body).await;
            assert_eq!(
                (&view["target"], &view["paused"]),
                (&target, &json!(is_paused)),
                "{path}"
            );
            let asked = edge.world.last_steered();
            assert_eq!(asked["endpoint"], verb);
            assert_eq!(asked["request"], json!({"target": target, "reason": "r"}));
        }
    }
    // Without a body there is no reason.
    let bare = edge
        .request(Method::POST, &of_invocation("pause"))
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(bare).await["reason"], Value::Null);
    let other = edge
        .post("/api/v1/pause", &json!({"target": "tenant"}))
        .header("mesh-tenant", "daarion");
    assert_eq!(other.send().await.unwrap().status(), 200);
    assert_eq!(edge.world.last_steered()["tenant"], "daarion");
    let pauses = json_of(edge.get("/api/v1/pauses").send().await.unwrap()).await;
    assert_eq!(pauses["items"][0]["target"], "all");
}

#[tokio::test]
async fn a_signal_carries_its_value_and_a_key() {
    let edge = Edge::start().await;
    let path = of_invocation("signal");
    let body = json!({"name": "paid", "value": {"amount": 3}});
    let sent = edge
        .post(&path, &body)
        .header("idempotency-key", "k-1")
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(sent).await["id"], json!(the_invocation()));
    let request = edge.world.last_steered()["request"].clone();
    assert_eq!(
        request,
        json!({"id": the_invocation(), "name": "paid", "value": {"amount": 3}, "key": "k-1"})
    );
    let mut keys = Vec::new();
    for _ in 0..2 {
        edge.posts(&path, &json!({"name": "paid"})).await;
        let request = edge.world.last_steered()["request"].clone();
        assert_eq!(request["value"], Value::Null);
        keys.push(request["key"].as_str().unwrap().to_owned());
    }
    assert_ne!(keys[0], keys[1], "each request is its own");
}

#[tokio::test]
async fn a_fork_is_made_with_its_location_and_tried_without() {
    let edge = Edge::start().await;
    let path = of_invocation("fork");
    let body = json!({"from_step": 3, "edit": {"model": "mock", "output": {"text": "x"}}});
    let made = edge
        .post(&path, &body)
        .header("idempotency-key", "f")
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), 201);
    assert_eq!(
        made.headers()["location"].to_str().unwrap(),
        format!("/api/v1/invocations/{}", the_fork())
    );
    assert_eq!(json_of(made).await["invocation"]["id"], json!(the_fork()));
    let request = edge.world.last_steered()["request"].clone();
    assert_eq!(request["edit"], body["edit"]);
    assert_eq!(
        (&request["from_step"], &request["dry_run"], &request["idempotency_key"]),
        (&json!(3), &json!(false), &json!("f"))
    );

    let tried = edge
        .post(&format!("{path}?dry_run=true"), &json!({"from_step": 1}))
        .send()
        .await
        .unwrap();
    assert_eq!((tried.status().as_u16(), tried.headers().get("location")), (200, None));
    let tried = json_of(tried).await;
    assert_eq!(
        (&tried["invocation"], &tried["steps"][0]["fate"]),
        (&Value::Null, &json!("read"))
    );
}

#[tokio::test]
async fn recordings_are_compared_and_replayed() {
    let edge = Edge::start().await;
    let compared = edge
        .get(&of_invocation(&format!("compare/{SOME_ID}")))
        .send()
        .await
        .unwrap();
    let compared = json_of(compared).await;
    assert_eq!(compared["left"]["id"], json!(the_invocation()));
    assert_eq!(
        (&compared["right"]["id"], &compared["first_difference"]),
        (&json!(SOME_ID), &json!(3))
    );
    let replayed = edge
        .request(Method::POST, &of_invocation("replay"))
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(replayed).await["version"], 2);
    assert_eq!(
        edge.posts(&of_invocation("replay"), &json!({"version": 7})).await["version"],
        7
    );
}

#[tokio::test]
async fn what_waits_for_a_person_is_listed_and_decided() {
    let edge = Edge::start().await;
    let listed = json_of(edge.get("/api/v1/approvals?limit=3").send().await.unwrap()).await;
    assert_eq!(listed, json!({"items": [], "next": "3"}));
    let path = |step: u32| format!("/api/v1/approvals/{SOME_ID}-{step}");
    let body = json!({"decision": "deny", "note": "too much", "output": {"text": "x"}});
    assert_eq!(edge.posts(&path(7), &body).await["id"], SOME_ID);
    assert_eq!(
        edge.world.last_steered()["request"],
        json!({"invocation": SOME_ID, "step": 7, "decision": "deny", "note": "too much", "output": {"text": "x"}})
    );
    let nobody = edge
        .post(&path(404), &json!({"decision": "approve"}))
        .send()
        .await
        .unwrap();
    assert_eq!(problem(nobody).await["type"], "execution/approval-not-found");

    let letter = "/api/v1/dead-letters/ded_01ARZ3NDEKTSV4RRFFQ69G5FAV/requeue";
    let requeued = edge.request(Method::POST, letter).send().await.unwrap();
    assert_eq!(requeued.status(), 201);
    assert!(
        requeued.headers()["location"]
            .to_str()
            .unwrap()
            .ends_with(&the_fork().to_string())
    );
    assert_eq!(json_of(requeued).await["dead_letter"]["settled"], "requeued");
}

#[tokio::test]
async fn bad_steering_is_refused_by_name() {
    let (name, invalid) = ("mesh/invalid-name", "mesh/invalid-request");
    let of = |what: &str| format!("/api/v1/invocations/{SOME_ID}/{what}");
    let decide = |id: &str| format!("/api/v1/approvals/{id}");
    let approval = format!("{SOME_ID}-3");
    let mut cases: Vec<Case> = ["1", SOME_ID, "inv_x-3", "mem_01ARZ3NDEKTSV4RRFFQ69G5FAV-1"]
        .into_iter()
        .map(|id| posted(&decide(id), r#"{"decision":"approve"}"#, name).of("id"))
        .collect();
    cases.extend([
        posted(&decide(&format!("{SOME_ID}-0")), r#"{"decision":"approve"}"#, name).of("id"),
        posted(&decide(&approval), "{}", invalid),
        posted(&decide(&approval), r#"{"decision":"maybe"}"#, invalid).of("decision"),
        posted(&decide(&approval), r#"{"decision":"deny","by":"me"}"#, invalid),
        posted("/api/v1/pause", "{}", invalid),
        posted("/api/v1/pause", r#"{"target":"everything"}"#, invalid).of("target"),
        posted("/api/v1/pause", r#"{"target":{"agent":"a.*"}}"#, invalid).of("target.agent"),
        posted("/api/v1/agents/a.b/pause", "{}", name).of("agent"),
        posted(&of("pause"), r#"{"why":"x"}"#, invalid),
        posted(&of("signal"), "{}", invalid),
        posted(&of("signal"), r#"{"name":""}"#, invalid).of("name"),
        posted(&of("signal"), format!(r#"{{"name":"{}"}}"#, "x".repeat(257)), invalid).of("name"),
        posted(&of("signal"), r#"{"name":"a","key":"k"}"#, invalid),
        posted(&of("signal"), r#"{"name":"a"}"#, invalid)
            .of("idempotency_key")
            .with("idempotency-key", ""),
        posted(&of("fork"), "{}", invalid),
        posted(&of("fork"), r#"{"from_step":0}"#, invalid).of("from_step"),
        posted(&of("fork"), r#"{"from_step":-1}"#, invalid).of("from_step"),
        posted(&of("fork"), r#"{"from_step":1,"edit":{"instruction":"x"}}"#, invalid),
        posted(
            &of("fork"),
            r#"{"from_step":1,"edit":{"prompt":[{"role":"nobody","content":"x"}]}}"#,
            invalid,
        ),
        posted(&of("fork?dry_run=perhaps"), r#"{"from_step":1}"#, invalid).of("dry_run"),
        posted(&of("replay"), r#"{"version":-1}"#, invalid).of("version"),
        get(of("compare/x"), 400, name).of("other"),
        get("/api/v1/pauses?limit=3", 400, invalid).of("limit"),
        get("/api/v1/approvals?limit=0", 400, invalid).of("limit"),
    ]);
    run(cases).await;
}
