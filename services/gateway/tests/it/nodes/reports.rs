//! What nodes say of themselves over HTTP, in the replaced API's shapes.

use mesh_types::fleet::{HealthReason, NodeMode};
use serde_json::{Value, json};

use super::fleet::Stage;
use crate::support::{json_of, problem};

const BASE: &str = "/api/runtimes/v1/agent-nodes";

impl Stage {
    pub(crate) async fn say(&self, what: &str, body: &Value) -> Value {
        json_of(self.edge.post(&format!("{BASE}/{what}"), body).send().await.unwrap()).await
    }

    async fn refused(&self, what: &str, body: &Value) -> Value {
        problem(self.edge.post(&format!("{BASE}/{what}"), body).send().await.unwrap()).await
    }
}

#[tokio::test]
async fn a_node_that_names_no_id_is_given_one_and_a_pinned_one_is_kept() {
    let stage = Stage::start().await;
    let body = json!({"name": "Kitchen", "mode": "shared", "hostname": "ignored", "slots": null,
        "capabilities": {"llm": true, "cli:codex": false}, "labels": {"region": "eu"}});
    let answer = stage.say("register", &body).await;
    assert_eq!(answer["agent_node"]["node_id"], "nod_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_eq!(
        (&answer["agent_node"]["status"], &answer["secret"]),
        (&json!("registered"), &Value::Null)
    );
    assert_eq!(answer["nats_url"], "nats://mesh.example.org:4222");
    let (caller, request) = stage.fleet.enrolled.lock().unwrap().pop().unwrap();
    assert_eq!(
        (caller.actor.as_str(), request.name.as_deref()),
        ("dev", Some("Kitchen"))
    );
    assert_eq!(request.capabilities, Some(vec!["llm".to_owned()]));
    assert_eq!((request.mode, request.slots), (Some(NodeMode::Shared), None));
    assert_eq!(request.tenant, Some(caller.tenant));

    let body = json!({"agent_node_id": "Pinned_1", "configuration": {"billable_account_uid": "acc-1"}});
    let answer = stage.say("register", &body).await;
    assert_eq!(answer["agent_node"]["node_id"], "Pinned_1");
    assert_eq!(answer["agent_node"]["billable_account_uid"], "acc-1");
    let problem = stage
        .refused("register", &json!({"node_id": "a", "agent_node_id": "b"}))
        .await;
    assert_eq!(problem["field"], "agent_node_id");
    let problem = stage.refused("register", &json!({"node_id": "a.b"})).await;
    assert_eq!(
        (&problem["status"], &problem["field"]),
        (&json!(400), &json!("node_id"))
    );
}

#[tokio::test]
async fn a_heartbeat_may_be_short_and_the_next_one_is_newer() {
    let stage = Stage::start().await;
    stage.node("kitchen", "dev", NodeMode::Private);
    let answer = stage
        .say("heartbeat", &json!({"node_id": "kitchen", "unknown": [1]}))
        .await;
    assert_eq!(
        (&answer["taken"], &answer["agent_node"]["status"]),
        (&json!(true), &json!("online"))
    );
    assert!(answer["agent_node"]["last_seen_at"].is_string());
    let first = stage.heard_of("kitchen").heartbeat.unwrap();
    assert_eq!((first.incarnation, first.slots, first.mode), (0, 4, NodeMode::Private));
    assert!(first.seq > 0 && (first.interval_seconds - 20.0).abs() < f64::EPSILON);
    let again = stage.say("heartbeat", &json!({"agent_node_id": "kitchen"})).await;
    assert_eq!(again["taken"], true);
    assert!(stage.heard_of("kitchen").heartbeat.unwrap().seq > first.seq);
    assert_eq!(stage.fleet.reports.lock().unwrap().len(), 0, "nothing differs");

    let whole = json!({"node_id": "kitchen", "incarnation": 7, "seq": 3, "interval_seconds": 1.5, "mode": "sleep",
        "slots": 2, "running": 1, "tokens_per_second": 12.5, "assignment": 9, "draining": true});
    let answer = stage.say("heartbeat", &whole).await;
    assert_eq!(
        (&answer["agent_node"]["mode"], &answer["agent_node"]["running"]),
        (&json!("sleep"), &json!(1))
    );
    let report = stage.fleet.reports.lock().unwrap().pop().unwrap();
    assert_eq!((report.incarnation, report.seq, report.mode), (7, 3, NodeMode::Sleep));
    let heard = stage.heard_of("kitchen").heartbeat.unwrap();
    assert_eq!((heard.assignment, heard.draining, heard.slots), (9, true, 2));
    // An older one changes nothing, neither what is seen nor what is registered.
    let late = json!({"node_id": "kitchen", "incarnation": 7, "seq": 2, "mode": "private",
        "configuration": {"billable_account_uid": "late"}});
    let answer = stage.say("heartbeat", &late).await;
    assert_eq!(
        (&answer["taken"], &answer["agent_node"]["mode"]),
        (&json!(false), &json!("sleep"))
    );
    assert_eq!(stage.known("kitchen").configuration.billable_account_uid, None);
    let newer = json!({"node_id": "kitchen", "incarnation": 7, "seq": 4,
        "configuration": {"mode": "shared", "billable_account_uid": "acc-1"}});
    let answer = stage.say("heartbeat", &newer).await;
    assert_eq!(answer["agent_node"]["billable_account_uid"], "acc-1");
    assert_eq!(answer["agent_node"]["mode"], "shared");
}

#[tokio::test]
async fn health_is_shown_as_it_was_said() {
    let stage = Stage::start().await;
    stage.node("kitchen", "dev", NodeMode::Private);
    let said = json!({"mode": "shared", "hostname": "kitchen.local", "platform": "Linux", "platform_release": "6.1",
        "python_version": null, "agent_runtimes_version": "1.2.3", "cpu_count": 8, "cpu_percent": 12.5,
        "memory_total_mb": 16_000, "memory_available_mb": 8_000, "load_average": [0.5, 0.25, 0.125],
        "uptime_seconds": 3_600, "reported_at": "2026-11-21T12:00:00Z", "reason": "mode_change"});
    let mut body = said.clone();
    body["node_id"] = json!("kitchen");
    let answer = stage.say("health", &body).await;
    for (field, value) in said.as_object().unwrap() {
        let shown = &answer["agent_node"]["health"][field];
        assert!(
            shown == value || (field == "reported_at" && shown.as_str().unwrap().starts_with("2026-11-21T12:00:00")),
            "{field}: {shown}"
        );
    }
    assert_eq!(
        answer["agent_node"]["mode"], "shared",
        "a reported mode replaces the registered one"
    );
    assert!(answer["agent_node"]["last_health_at"].is_string());

    let nested =
        json!({"node_id": "kitchen", "health": {"hostname": "nested", "load_average": null, "uptime_seconds": 1.9}});
    stage.say("health", &nested).await;
    let health = stage.heard_of("kitchen").health.unwrap();
    assert_eq!((health.hostname.as_str(), health.uptime_seconds), ("nested", 1));
    assert_eq!((health.mode, health.reason), (NodeMode::Shared, HealthReason::Periodic));

    for (change, field) in [
        (json!({"cpu_percent": "much"}), "cpu_percent"),
        (json!({"memory_total_mb": -1}), "memory_total_mb"),
        (json!({"platform": "x".repeat(257)}), "platform"),
        (json!({"reason": "boredom"}), "reason"),
        (json!({"mode": "public"}), "mode"),
        (json!({"node_id": null}), "node_id"),
    ] {
        let mut body = json!({"node_id": "kitchen"});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let problem = stage.refused("health", &body).await;
        assert_eq!(
            (&problem["status"], &problem["field"]),
            (&json!(400), &json!(field)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_configuration_changes_what_it_says_and_never_the_id() {
    let stage = Stage::start().await;
    stage.node("kitchen", "dev", NodeMode::Private);
    let first = json!({"node_id": "kitchen", "mode": "shared", "billable_account_uid": "acc-1",
        "billable_account_handle": "ann", "sharing": {"users": ["bob"], "unknown": 1, "agents": null}});
    let answer = stage.say("configuration", &first).await;
    assert_eq!(answer["agent_node"]["sharing"]["users"], json!(["bob"]));
    assert_eq!(answer["agent_node"]["node_uid"], "kitchen");
    let second = json!({"node_uid": "kitchen", "billable_account_handle": null, "labels": {"region": "eu"}});
    let node = &stage.say("configuration", &second).await["agent_node"];
    assert_eq!(
        (&node["mode"], &node["billable_account_uid"]),
        (&json!("shared"), &json!("acc-1"))
    );
    assert_eq!(
        (&node["billable_account_handle"], &node["labels"]["region"]),
        (&Value::Null, &json!("eu"))
    );
    assert_eq!(node["sharing"]["users"], json!(["bob"]));
    let foreign = json!({"node_id": "kitchen", "node_uid": "cellar", "mode": "sleep"});
    assert_eq!(stage.refused("configuration", &foreign).await["field"], "node_uid");
    assert_eq!(stage.known("kitchen").configuration.mode, NodeMode::Shared);
    let unknown = stage.refused("configuration", &json!({"node_id": "cellar"})).await;
    assert_eq!(unknown["type"], "registry/node-not-found");
}
