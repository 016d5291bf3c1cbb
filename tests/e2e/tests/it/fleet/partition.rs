//! A node and NATS do not hear each other for 5, 30 and 90 seconds: no work is lost, no recorded step runs again,
//! effects that may happen once happen once, results that were finished meanwhile count where nobody else has recorded
//! that step, and the node heals without help.

use std::time::Duration;

use super::ground::Ground;
use super::nodes::{Node, Order};
use super::proxy::Proxy;
use crate::harness::until;

struct Split {
    proxy: Proxy,
    node: Node,
    /// The node's label.
    of: String,
}

impl Split {
    /// One node, behind a proxy to NATS.
    async fn up(ground: &Ground, seconds: u64) -> Self {
        let of = format!("away-{seconds}");
        let proxy = Proxy::to(ground.mesh.nats_port()).await;
        let order = Order {
            url: format!("nats://{}", proxy.address),
            of: of.clone(),
            ..ground.order("away", 8).await
        };
        let node = ground.start(&order);
        ground.until_status(&node.id, "online", 30).await;
        Self { proxy, node, of }
    }
}

pub(super) async fn of_so_many_seconds_loses_nothing(ground: &Ground, seconds: u64) {
    let Split { proxy, node, of } = Split::up(ground, seconds).await;
    let (once_file, again_file) = (format!("{of}-once"), format!("{of}-again"));
    let once = ground.file(&once_file).display().to_string();
    let again = ground.file(&again_file).display().to_string();
    let single = format!("echo ran >> {once}; sleep 2; echo '{{\"single\":true}}'");
    let repeated = format!("echo ran >> {again}; sleep 2; echo '{{}}'");
    let single = ground.agent(1, &single, "at_most_once", &of).await;
    let repeated = ground.agent(1, &repeated, "idempotent", &of).await;
    // What is recorded before must not run again.
    let recorded = ground.invoke(&repeated).await;
    ground.completed(&recorded).await;
    let (running, other) = (ground.invoke(&single).await, ground.invoke(&repeated).await);
    until(30, "both run", || async {
        (ground.lines(&once_file).len() == 1 && ground.lines(&again_file).len() == 2).then_some(())
    })
    .await;
    // Both scripts end while nobody hears it.
    proxy.partition(Duration::from_secs(seconds)).await;
    ground.until_status(&node.id, "online", 40).await;
    let ended = ground.completed(&running).await;
    assert_eq!(
        ended["output"]["single"], true,
        "the result that was finished meanwhile: {ended}"
    );
    ground.completed(&other).await;
    assert_eq!(ground.lines(&once_file).len(), 1, "at most once");
    assert_eq!(ground.records(&recorded, "done").await.len(), 1);
    assert!(ground.lines(&again_file).len() <= 3, "{:?}", ground.lines(&again_file));
    let next = ground.invoke(&repeated).await;
    ground.completed(&next).await;
}
