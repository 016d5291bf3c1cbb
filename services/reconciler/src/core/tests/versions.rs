//! How versions follow each other, and back.

use std::time::Duration;

use mesh_api::reconciler::ActionKind;
use mesh_types::fleet::{ReplicaReport, ReplicaState};

use super::{fleet, kinds, later, pass, sentences};

#[test]
fn serving_moves_with_the_first_ready_replica_and_not_before() {
    let mut fleet = fleet(&[4, 4], &[("a", 2)]);
    pass(&mut fleet);
    assert!(fleet.kept.servings().next().is_none());
    fleet.follow();
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan),
        ["send new invocations of a to v1 because its first replica is ready on n0"]
    );
    fleet.seen.agents[0].version = 2;
    let plan = pass(&mut fleet);
    assert_eq!(sentences(&plan), ["place a v2 on n0 because v2 takes the place of v1"]);
    assert_eq!(fleet.kept.servings().next().unwrap().1.version, 1);
    assert!(fleet.settle(10).is_some());
    assert_eq!(fleet.kept.servings().next().unwrap().1.version, 2);
    assert!(fleet.kept.replicas.values().all(|replica| replica.version == 2));
}

#[test]
fn a_rollout_keeps_its_limits_at_every_step() {
    for (surge, unavailable) in [(1, 0), (0, 1), (2, 1), (0, 5)] {
        let mut fleet = fleet(&[9, 9, 9], &[("a", 5)]);
        let rollout = &mut fleet.seen.agents[0].placement.rollout;
        (rollout.surge, rollout.unavailable) = (surge, unavailable);
        fleet.settle(5).unwrap();
        fleet.seen.agents[0].version = 2;
        for _ in 0..30 {
            pass(&mut fleet);
            let on = fleet.kept.replicas.values().filter(|replica| !replica.stopping);
            let (total, ready) = on.fold((0, 0), |(total, ready), replica| {
                (total + 1, ready + u32::from(replica.state == ReplicaState::Ready))
            });
            assert!(
                total <= 5 + surge.max(u32::from(unavailable == 0)),
                "{surge} {unavailable}: {total}"
            );
            assert!(ready + unavailable >= 5, "{surge} {unavailable}: {ready} ready");
            fleet.follow();
        }
        assert!(fleet.kept.replicas.values().all(|replica| replica.version == 2));
        assert_eq!(fleet.settle(1), Some(0));
    }
}

#[test]
fn a_version_that_fails_is_rolled_back_and_tried_again_after_its_pause() {
    let mut fleet = fleet(&[4, 4], &[("a", 2)]);
    fleet.settle(5).unwrap();
    fleet.seen.agents[0].version = 2;
    pass(&mut fleet);
    let broken = |report: &ReplicaReport| match report.version {
        2 => ReplicaState::Failed,
        _ => ReplicaState::Ready,
    };
    fleet.follow_with(broken);
    let plan = pass(&mut fleet);
    assert_eq!(kinds(&plan), [ActionKind::RollBack, ActionKind::Stop]);
    assert!(sentences(&plan)[0].starts_with("roll a back from v2 to v1 because it failed on n"));
    // Nothing of it until the pause is over, then once more.
    for _ in 0..10 {
        fleet.follow_with(broken);
        later(&mut fleet, 20);
        assert!(
            pass(&mut fleet)
                .actions
                .iter()
                .all(|action| action.kind == ActionKind::Remove)
        );
    }
    later(&mut fleet, 101);
    assert_eq!(kinds(&pass(&mut fleet)), [ActionKind::Place]);
    fleet.follow_with(broken);
    let plan = pass(&mut fleet);
    assert_eq!(
        plan.actions[0].next_try_at.unwrap().since(fleet.now),
        Duration::from_secs(600)
    );
    // Published anew, it is tried at once.
    fleet.seen.agents[0].version = 3;
    fleet.seen.agents[0].published_at = fleet.now;
    assert!(kinds(&pass(&mut fleet)).contains(&ActionKind::Place));
    assert!(fleet.settle(10).is_some());
    assert_eq!(fleet.kept.servings().next().unwrap().1.version, 3);
}

#[test]
fn a_version_that_never_gets_ready_is_rolled_back_in_its_time() {
    let mut fleet = fleet(&[4], &[("a", 1)]);
    fleet.settle(5).unwrap();
    fleet.seen.agents[0].version = 2;
    pass(&mut fleet);
    let slow = |report: &ReplicaReport| match report.version {
        2 => ReplicaState::Starting,
        _ => ReplicaState::Ready,
    };
    fleet.follow_with(slow);
    later(&mut fleet, 29);
    assert_eq!(pass(&mut fleet).acting(), 0);
    later(&mut fleet, 2);
    let plan = pass(&mut fleet);
    assert_eq!(
        sentences(&plan)[0],
        "roll a back from v2 to v1 because it was not ready on n0 within 30 s"
    );
}

#[test]
fn a_replica_that_fails_alone_is_replaced_with_growing_pauses() {
    let mut fleet = fleet(&[9, 9], &[("a", 1)]);
    let broken = |_: &ReplicaReport| ReplicaState::Failed;
    let mut placed = 0;
    for _ in 0..600 {
        let plan = pass(&mut fleet);
        placed += kinds(&plan).iter().filter(|kind| **kind == ActionKind::Place).count();
        fleet.follow_with(broken);
        later(&mut fleet, 1);
    }
    // 0, 5, 15, 35, 75, 155, 315 s after the first failure.
    assert!((6..=9).contains(&placed), "{placed}");
    assert!(
        fleet.settle(8).is_some() || {
            later(&mut fleet, 300);
            fleet.settle(8).is_some()
        }
    );
}
