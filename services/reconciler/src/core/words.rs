//! Actions with their sentences, made once, here, for the command line, the API and the events alike.

use std::time::Duration;

use mesh_api::fleet::PlacedAgent;
use mesh_api::reconciler::{Action, ActionKind, ActionResult};
use mesh_types::{AgentName, NodeId, Tenant, Timestamp};

use super::kept::Replica;

/// "14 s", "3 min".
pub(super) fn time(since: Timestamp, now: Timestamp) -> String {
    span(now.since(since))
}

pub(super) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

pub(super) fn plural(count: u32, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}

pub(super) fn place(replica: &Replica, label: &str, from: Option<(&NodeId, &str)>, because: String) -> Action {
    let Replica { agent, version, .. } = replica;
    let moved = from
        .map(|(_, label)| format!(" in place of {label}"))
        .unwrap_or_default();
    let sentence = format!("place {agent} v{version} on {label}{moved} because {because}");
    Action {
        from: from.map(|(node, _)| node.clone()),
        to: Some(replica.node.clone()),
        ..of_replica(ActionKind::Place, replica, because, sentence)
    }
}

pub(super) fn stop(replica: &Replica, label: &str, because: String) -> Action {
    let Replica { agent, version, .. } = replica;
    let sentence = format!("stop {agent} v{version} on {label} because {because}");
    leaving(ActionKind::Stop, replica, because, sentence)
}

pub(super) fn remove(replica: &Replica, label: &str, because: String) -> Action {
    let Replica { agent, version, .. } = replica;
    let sentence = format!("remove {agent} v{version} from {label} because {because}");
    leaving(ActionKind::Remove, replica, because, sentence)
}

fn leaving(kind: ActionKind, replica: &Replica, because: String, sentence: String) -> Action {
    Action {
        from: Some(replica.node.clone()),
        ..of_replica(kind, replica, because, sentence)
    }
}

fn of_replica(kind: ActionKind, replica: &Replica, because: String, sentence: String) -> Action {
    Action {
        version: Some(replica.version),
        replica: Some(replica.id),
        ..action(kind, &replica.tenant, &replica.agent, because, sentence)
    }
}

pub(super) fn serve(agent: &PlacedAgent, version: u32, before: Option<u32>, because: String) -> Action {
    let name = &agent.agent;
    let instead = before.map(|old| format!(" instead of v{old}")).unwrap_or_default();
    let sentence = format!("send new invocations of {name} to v{version}{instead} because {because}");
    Action {
        version: Some(version),
        ..of_agent(ActionKind::Serve, agent, because, sentence)
    }
}

pub(super) fn roll_back(agent: &PlacedAgent, failed: u32, to: u32, next: Timestamp, because: String) -> Action {
    let name = &agent.agent;
    let sentence = format!("roll {name} back from v{failed} to v{to} because {because}");
    Action {
        version: Some(to),
        next_try_at: Some(next),
        ..of_agent(ActionKind::RollBack, agent, because, sentence)
    }
}

pub(super) fn scale(agent: &PlacedAgent, from: u32, to: u32, because: String) -> Action {
    let name = &agent.agent;
    let sentence = format!("scale {name} from {from} to {to} because {because}");
    of_agent(ActionKind::Scale, agent, because, sentence)
}

pub(super) fn hold(agent: &PlacedAgent, missing: u32, next: Option<Timestamp>, because: String) -> Action {
    let name = &agent.agent;
    let what = plural(missing, "replica");
    let sentence = format!("hold {what} of {name} because {because}");
    Action {
        result: ActionResult::Held,
        next_try_at: next,
        ..of_agent(ActionKind::Hold, agent, because, sentence)
    }
}

fn of_agent(kind: ActionKind, agent: &PlacedAgent, because: String, sentence: String) -> Action {
    action(kind, &agent.tenant, &agent.agent, because, sentence)
}

fn action(kind: ActionKind, tenant: &Tenant, agent: &AgentName, because: String, sentence: String) -> Action {
    Action {
        kind,
        tenant: Some(tenant.clone()),
        agent: Some(agent.clone()),
        version: None,
        replica: None,
        from: None,
        to: None,
        because,
        sentence,
        result: ActionResult::Planned,
        next_try_at: None,
    }
}
