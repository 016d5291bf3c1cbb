//! Start and end of the edge.

use std::time::Duration;

use gateway::{Config, Error, Gateway};
use serde_json::json;

use crate::support::{Edge, json_of};

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let first = Gateway::bind(Config {
        port: 0,
        ..Config::default()
    })
    .await
    .unwrap();
    let taken = Config {
        port: first.address().port(),
        ..Config::default()
    };
    let error = Gateway::bind(taken).await.unwrap_err();
    assert!(matches!(error, Error::PortTaken { .. }));
    assert!(error.to_string().contains("MESH_HTTP_PORT"), "{error}");
}

#[tokio::test]
async fn only_loopback_is_bound() {
    let error = Gateway::bind(Config {
        host: "0.0.0.0".into(),
        port: 0,
        ..Config::default()
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut edge = Edge::start().await;
    let waiting = edge.post("/api/v1/agents/slow/invocations?wait=30", &json!({})).send();
    let shutdown = async {
        edge.slow_request_arrives().await;
        edge.context.shutdown.cancel();
        let fresh = reqwest::Client::builder().no_proxy().build().unwrap();
        let refused = || async {
            fresh
                .get(format!("http://{}/livez", edge.address))
                .send()
                .await
                .is_err()
        };
        mesh_testkit::wait_until(Duration::from_secs(30), refused).await;
        edge.world.slow_may_end.notify_one();
    };
    let (response, ()) = tokio::join!(waiting, shutdown);
    assert_eq!(json_of(response.unwrap()).await["state"], "completed");
    let served = tokio::time::timeout(Duration::from_secs(30), &mut edge.served).await;
    served.expect("serve returns once drained").unwrap().unwrap();
}

#[tokio::test]
async fn what_outlasts_the_drain_deadline_is_cut_off() {
    let mut edge = Edge::start_with(Config {
        drain_timeout_ms: 200,
        ..Config::default()
    })
    .await;
    let path = format!("http://{}/api/v1/agents/slow/invocations?wait=30", edge.address);
    let endless = edge.client.post(path).json(&json!({})).send();
    tokio::select! {
        response = endless => panic!("the agent never ends, but: {response:?}"),
        served = async {
            edge.slow_request_arrives().await;
            edge.context.shutdown.cancel();
            tokio::time::timeout(Duration::from_secs(30), &mut edge.served).await
        } => served.expect("serve returns at the deadline").unwrap().unwrap(),
    }
}
