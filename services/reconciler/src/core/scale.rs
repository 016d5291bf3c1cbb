//! How many replicas of an agent are wanted: its number, or between its bounds by what waits and what is made. Up at
//! once; down when fewer would have done for a while.

use std::time::Duration;

use mesh_api::execution::AgentDemand;
use mesh_api::fleet::PlacedAgent;
use mesh_types::Timestamp;
use mesh_types::agent::Autoscaling;

use super::kept::KeptAgent;
use super::{Plan, World, words};

/// Decides the number; a change is an action and remembered.
pub(super) fn wanted(
    world: &World<'_>,
    agent: &PlacedAgent,
    demand: Option<&AgentDemand>,
    tokens_per_second: f64,
    kept: &mut KeptAgent,
    plan: &mut Plan,
) -> u32 {
    let Some(scaling) = &agent.placement.autoscaling else {
        (kept.scale, kept.low) = (None, None);
        return agent.placement.replicas;
    };
    let start = agent.placement.replicas;
    let current = kept
        .scale
        .unwrap_or(start)
        .clamp(scaling.min, scaling.max.max(scaling.min));
    let (needed, why) = needed(scaling, agent.concurrency, demand, tokens_per_second);
    let needed = if world.seen.demand.complete {
        needed
    } else {
        needed.max(current)
    };
    let (next, because) = if needed >= current {
        kept.low = None;
        (needed, why)
    } else {
        let idle = Duration::from_secs(u64::from(scaling.idle_seconds));
        let (since, most) = kept.low.unwrap_or((world.now, needed));
        let most = most.max(needed);
        if world.now.since(since) >= idle {
            kept.low = None;
            let because = format!(
                "{} had been enough for {}",
                words::plural(most, "replica"),
                words::span(idle)
            );
            (most, because)
        } else {
            kept.low = Some((since, most));
            due(plan, since, idle);
            (current, String::new())
        }
    };
    if next != current {
        plan.actions.push(words::scale(agent, current, next, because));
    }
    kept.scale = Some(next);
    next
}

fn due(plan: &mut Plan, since: Timestamp, idle: Duration) {
    plan.due(since.plus(idle));
}

/// What the work of this moment needs, within the bounds, and why.
fn needed(
    scaling: &Autoscaling,
    concurrency: u32,
    demand: Option<&AgentDemand>,
    tokens_per_second: f64,
) -> (u32, String) {
    let (waiting, running) = demand.map_or((0, 0), |demand| (demand.waiting, demand.running));
    let by_queue = waiting.div_ceil(u64::from(scaling.queue_per_replica.max(1)));
    let by_work = running.div_ceil(u64::from(concurrency.max(1)));
    let by_tokens = scaling.tokens_per_second_per_replica.map_or(0, |most| {
        let replicas = (tokens_per_second / most).ceil();
        // A rate that is no number needs nobody; one beyond all bounds is cut by them.
        if replicas.is_finite() && replicas > 0.0 {
            replicas.min(1e6) as u64
        } else {
            0
        }
    });
    let most = by_queue.max(by_work).max(by_tokens);
    let why = if most == by_queue && waiting > 0 {
        let each = scaling.queue_per_replica;
        format!("{waiting} invocations wait, and {each} may wait for each replica")
    } else if most == by_work && running > 0 {
        format!("{running} invocations run")
    } else if most > 0 {
        format!("its models make {tokens_per_second:.0} tokens per second")
    } else {
        format!("at least {} must run", scaling.min)
    };
    let needed = u32::try_from(most).unwrap_or(u32::MAX);
    (needed.clamp(scaling.min, scaling.max.max(scaling.min)), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_runs_and_is_made_asks_for_replicas_within_the_bounds() {
        let scaling = Autoscaling {
            min: 0,
            max: 4,
            queue_per_replica: 5,
            tokens_per_second_per_replica: Some(50.0),
            idle_seconds: 60,
        };
        let demand = |waiting, running| AgentDemand {
            tenant: mesh_types::Tenant::default(),
            agent: "sofia".parse().unwrap(),
            waiting,
            running,
            oldest_waiting_ms: 0,
        };
        let many = |waiting, running, rate| needed(&scaling, 2, Some(&demand(waiting, running)), rate).0;
        assert_eq!(needed(&scaling, 2, None, 0.0).0, 0);
        assert_eq!((many(1, 0, 0.0), many(6, 0, 0.0), many(600, 0, 0.0)), (1, 2, 4));
        assert_eq!((many(0, 1, 0.0), many(0, 5, 0.0)), (1, 3));
        assert_eq!(
            (many(0, 0, 51.0), many(0, 0, f64::NAN), many(0, 0, f64::INFINITY)),
            (2, 0, 0)
        );
    }
}
