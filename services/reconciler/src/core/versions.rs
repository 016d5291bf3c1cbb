//! Versions of one agent: which one is meant, when it serves, when it has failed and what replaces it.

use std::time::Duration;

use mesh_api::fleet::PlacedAgent;
use mesh_types::fleet::ReplicaState;

use super::agents::Decision;
use super::kept::FailedVersion;
use super::nodes::Place;
use super::replicas::Standing;
use super::settle::stop;
use super::{Plan, World, words};

/// Longest pause between two replacements of failing replicas.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Longest pause before a failed version is tried again.
const VERSION_RETRY_MAX: Duration = Duration::from_secs(3_600);

/// The published version, or the one before while it has failed and its time has not come.
pub(super) fn choose_target(world: &World<'_>, decision: &mut Decision<'_>, plan: &mut Plan) {
    let agent = decision.agent;
    let kept = &mut decision.kept;
    let is_same = |failed: &FailedVersion| failed.version == agent.version && failed.published_at == agent.published_at;
    kept.failed = kept.failed.take().filter(is_same);
    let fallback = kept.serving.as_ref().filter(|serving| serving.version != agent.version);
    if let (Some(failed), Some(fallback)) = (&kept.failed, fallback)
        && failed.next_try_at > world.now
    {
        decision.target = fallback.clone();
        plan.due(failed.next_try_at);
    }
}

/// Why a replica that stays does not do its work, if it had its time.
pub(super) fn failure(
    world: &World<'_>,
    places: &[Place<'_>],
    standing: &Standing<'_>,
    agent: &PlacedAgent,
    plan: &mut Plan,
) -> Option<String> {
    let place = &places[standing.place?];
    match standing.state {
        ReplicaState::Ready => None,
        ReplicaState::Failed => {
            let detail = plan
                .changes
                .replicas
                .get(&standing.replica.id)
                .map(|changed| &changed.detail);
            let detail = detail.unwrap_or(&standing.replica.detail);
            Some(format!("it failed on {}: {detail}", place.label))
        }
        // Whether the node hears at all is another question.
        ReplicaState::Starting | ReplicaState::Stopping if !place.has_heard() => None,
        ReplicaState::Starting | ReplicaState::Stopping => {
            let health = Duration::from_secs(u64::from(agent.placement.rollout.health_seconds));
            let since = standing.since.max(world.since).max(place.kept.alive_since?);
            let due = since.plus(health);
            if due > world.now {
                plan.due(due);
                return None;
            }
            Some(format!(
                "it was not ready on {} within {}",
                place.label,
                words::span(health)
            ))
        }
    }
}

/// Goes back to the version that worked, if there is one.
pub(super) fn roll_back(world: &World<'_>, decision: &mut Decision<'_>, why: &str, plan: &mut Plan) -> bool {
    let target = decision.target.clone();
    let kept = &mut decision.kept;
    let is_serving = kept
        .serving
        .as_ref()
        .is_some_and(|serving| serving.version == target.version);
    let before = if is_serving {
        kept.previous.take()
    } else {
        kept.serving.clone()
    };
    let Some(before) = before.filter(|before| before.version != target.version) else {
        return false;
    };
    let tries = kept.failed.as_ref().map_or(1, |failed| failed.tries.saturating_add(1));
    let pause = doubled(world.settings.version_retry, tries, VERSION_RETRY_MAX);
    let next_try_at = world.now.plus(pause);
    plan.due(next_try_at);
    let action = words::roll_back(
        decision.agent,
        target.version,
        before.version,
        next_try_at,
        why.to_owned(),
    );
    plan.actions.push(action);
    kept.failed = Some(FailedVersion {
        version: target.version,
        published_at: decision.agent.published_at,
        tries,
        next_try_at,
        why: why.to_owned(),
    });
    if is_serving {
        (kept.serving, kept.epoch) = (Some(before.clone()), world.epoch);
    }
    decision.target = before;
    true
}

fn doubled(first: Duration, tries: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(most)
}

/// Stops replicas that failed, so that others are placed; with growing pauses between.
pub(super) fn replace_failing<'s>(
    world: &World<'_>,
    places: &[Place<'_>],
    decision: &mut Decision<'s>,
    failing: Vec<(&'s Standing<'s>, String)>,
    plan: &mut Plan,
) {
    if failing.is_empty() {
        return;
    }
    if let Some(at) = decision.kept.retry_at.filter(|at| *at > world.now) {
        plan.due(at);
        return;
    }
    let kept = &mut decision.kept;
    let is_old = kept
        .retry_at
        .is_none_or(|at| world.now.since(at) >= world.settings.flap_window);
    kept.retries = if is_old { 1 } else { kept.retries.saturating_add(1) };
    kept.retry_at = Some(world.now.plus(doubled(world.settings.retry, kept.retries, RETRY_MAX)));
    for (standing, why) in failing {
        decision.good.retain(|one| one.replica.id != standing.replica.id);
        stop(places, standing, why.clone(), plan);
        decision.reasons.push_back((standing.place, why));
    }
}

/// Moves new invocations to the version that is meant once a replica of it is ready.
pub(super) fn serve(world: &World<'_>, places: &[Place<'_>], decision: &mut Decision<'_>, plan: &mut Plan) {
    let target = &decision.target;
    let own = decision.good.iter().chain(&decision.leaving);
    let ready = own.filter(|one| one.replica.version == target.version && one.is_ready());
    let Some(place) = ready.filter_map(|one| one.place).next() else {
        return;
    };
    let kept = &mut decision.kept;
    if kept
        .serving
        .as_ref()
        .is_none_or(|serving| serving.version != target.version)
    {
        let because = format!("its first replica is ready on {}", places[place].label);
        let before = kept.serving.as_ref().map(|serving| serving.version);
        plan.actions
            .push(words::serve(decision.agent, target.version, before, because));
        kept.previous = kept.serving.replace(target.clone());
        kept.epoch = world.epoch;
    }
}

/// Whether the version that is meant has taken over for good: then nobody goes back from it by itself.
pub(super) fn conclude(decision: &mut Decision<'_>) {
    let ready = decision.good.iter().filter(|one| one.is_ready()).count();
    let target = decision.target.version;
    let kept = &mut decision.kept;
    let is_serving = kept.serving.as_ref().is_some_and(|serving| serving.version == target);
    if is_serving && decision.others.is_empty() && ready >= decision.wanted as usize {
        kept.previous = None;
        kept.failed = kept.failed.take().filter(|failed| failed.version != target);
    }
}

/// Lets replicas of other versions go, as many as may be missing.
pub(super) fn stop_others(places: &[Place<'_>], decision: &mut Decision<'_>, plan: &mut Plan) {
    let ready = [&decision.good, &decision.others, &decision.leaving];
    let ready = ready.into_iter().flatten().filter(|one| one.is_ready()).count();
    let may_miss = decision.agent.placement.rollout.unavailable;
    let needed = decision.wanted.saturating_sub(may_miss) as usize;
    let mut spare = ready.saturating_sub(needed);
    let target = decision.target.version;
    let mut others = std::mem::take(&mut decision.others);
    // Oldest placed last, so that what has proven itself stays longest.
    others.sort_by_key(|one| std::cmp::Reverse((one.replica.placed_at, one.replica.id)));
    others.retain(|one| {
        if one.is_ready() {
            let Some(left) = spare.checked_sub(1) else {
                return true;
            };
            spare = left;
        }
        stop(places, one, format!("v{target} takes its place"), plan);
        false
    });
    decision.others = others;
}
