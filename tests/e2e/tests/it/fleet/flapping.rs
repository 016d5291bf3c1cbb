//! A node that comes and goes each second for two minutes must not drag replicas about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ground::Ground;
use super::nodes::Order;

const FLAPS_FOR: Duration = Duration::from_secs(120);
const MOVES_MAX: usize = 3;

pub(super) async fn moves_a_replica_at_most_three_times(ground: &Ground) {
    let order = |prefix| async move {
        Order {
            of: "flapping".into(),
            ..ground.order(prefix, 8).await
        }
    };
    let flapping = ground.start(&order("flapping").await);
    ground.until_status(&flapping.id, "online", 30).await;
    let agents = [
        ground.agent(1, "sleep 0.1; echo '{}'", "idempotent", "flapping").await,
        ground.agent(1, "sleep 0.1; echo '{}'", "idempotent", "flapping").await,
    ];
    ground.all_answer(&agents, 1).await;
    let steady = ground.start(&order("steady").await);
    ground.until_status(&steady.id, "online", 30).await;
    let began = Instant::now();
    // Where each agent's replica was seen, in order.
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut is_up = true;
    while began.elapsed() < FLAPS_FOR {
        flapping.signal(if is_up { Signal::SIGSTOP } else { Signal::SIGCONT });
        is_up = !is_up;
        let turn = Instant::now() + Duration::from_secs(1);
        while Instant::now() < turn {
            for replica in ground.replicas().await {
                let (agent, node) = (text(&replica["agent"]), text(&replica["node"]));
                if !agents.contains(&agent) {
                    continue;
                }
                let places = seen.entry(agent).or_default();
                if places.last() != Some(&node) && replica["state"] != "stopping" {
                    places.push(node);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    flapping.signal(Signal::SIGCONT);
    assert!(!seen.is_empty());
    for (agent, places) in &seen {
        assert!(places.len() <= MOVES_MAX + 1, "{agent}: {places:?}");
    }
    ground.all_answer(&agents, 1).await;
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}
