//! What a process can carry is shared: one tenant does not take all of it.

use std::time::Duration;

use gateway::Config;

use crate::guarded::Guarded;
use crate::made::the_invocation;
use crate::support::problem;

#[tokio::test]
async fn a_tenant_with_its_share_of_streams_waits_while_another_is_served() {
    let guarded = Guarded::start(Config {
        streams_max: 4,
        ..Config::default()
    })
    .await;
    guarded.edge.commit(&crate::facts::journal()[..2]);
    let path = format!("/api/v1/invocations/{}/events", the_invocation());
    let open = async |key: &str| guarded.get(key, &path).send().await.unwrap();
    // Two people of one tenant.
    let mut held = vec![open("greedy_ann").await, open("greedy_bob").await];
    assert!(held.iter().all(|stream| stream.status() == 200));
    let refused = open("greedy_bob").await;
    assert_eq!(refused.headers()["retry-after"], "5");
    let refused = problem(refused).await;
    assert_eq!(
        (&refused["status"], &refused["type"]),
        (&429.into(), &"mesh/rate-limited".into())
    );
    assert!(refused["next"].is_string(), "{refused}");
    held.push(open("other_cid").await);
    held.push(open("other_cid").await);
    assert!(held.iter().all(|stream| stream.status() == 200));
    let full = problem(open("third_dan").await).await;
    assert_eq!(full["type"], "mesh/busy");
    drop(held);
    let is_free = || async { open("greedy_ann").await.status() == 200 };
    mesh_testkit::wait_until(Duration::from_secs(30), is_free).await;
}
