//! The agents of a run: every runtime path, session policy and effect class that the core treats differently.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mesh_types::agent::{
    AgentSpec, ApprovalRule, Effect, Noop, Placement, Runtime, SessionPolicy, Span, Tool, ToolKind, ToolSpec,
};
use mesh_types::{AgentName, Code, Problem, Tenant};

use crate::agents::Pinned;

#[derive(Debug)]
pub(super) struct Registry {
    agents: BTreeMap<AgentName, Pinned>,
}

/// Agents that clients call, each with what its requests look like.
pub(super) const CALLED: [(&str, Kind); 13] = [
    ("noop", Kind::Noop),
    ("steps", Kind::Noop),
    ("narrow", Kind::Noop),
    ("worker", Kind::Script),
    ("worker", Kind::Script),
    ("worker", Kind::Script),
    ("queue", Kind::Script),
    ("reject", Kind::Noop),
    ("interrupt", Kind::Script),
    ("merge", Kind::Script),
    ("placed", Kind::Script),
    ("placed", Kind::Script),
    ("placed-noop", Kind::Noop),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Noop,
    Script,
}

impl Registry {
    pub(super) fn new() -> Self {
        let mut agents = BTreeMap::new();
        let mut publish = |name: &str, spec: AgentSpec| {
            let name: AgentName = name.parse().expect("a name of ours");
            let pinned = Pinned {
                version: 1,
                hash: format!("{name:0>64}"),
                spec: Arc::new(spec),
            };
            agents.insert(name, pinned);
        };
        publish("noop", noop(1, 16));
        publish("steps", noop(4, 16));
        publish("narrow", noop(2, 1));
        publish("worker", script(SessionPolicy::Queue));
        publish("helper", script(SessionPolicy::Queue));
        publish("queue", script(SessionPolicy::Queue));
        publish("reject", with_policy(noop(3, 16), SessionPolicy::Reject));
        publish("interrupt", script(SessionPolicy::Interrupt));
        publish("merge", script(SessionPolicy::Merge));
        let placement = Some(Placement::default());
        publish(
            "placed",
            AgentSpec {
                placement: placement.clone(),
                ..script(SessionPolicy::Queue)
            },
        );
        publish(
            "placed-noop",
            AgentSpec {
                placement,
                ..noop(2, 4)
            },
        );
        Self { agents }
    }

    /// As if every node ran a replica of each of them.
    pub(super) fn placed(&self) -> HashMap<(Tenant, AgentName), u32> {
        let placed = self.agents.iter().filter(|(_, pinned)| pinned.spec.placement.is_some());
        placed
            .map(|(name, pinned)| ((Tenant::default(), name.clone()), pinned.spec.limits.concurrency))
            .collect()
    }

    pub(super) fn published(&self, agent: &AgentName) -> Result<Pinned, Problem> {
        let unknown = || Problem::new(Code::AgentNotFound, format!("no agent {agent}"));
        self.agents.get(agent).cloned().ok_or_else(unknown)
    }
}

fn with_policy(mut spec: AgentSpec, policy: SessionPolicy) -> AgentSpec {
    spec.session.policy = policy;
    spec
}

fn noop(steps: u32, concurrency: u32) -> AgentSpec {
    let mut spec = AgentSpec {
        runtime: Runtime::Noop,
        noop: Some(Noop { steps }),
        ..AgentSpec::default()
    };
    spec.limits.concurrency = concurrency;
    spec
}

fn script(policy: SessionPolicy) -> AgentSpec {
    let mut spec = AgentSpec {
        tools: tools(),
        ..AgentSpec::default()
    };
    spec.context.history = 0;
    spec.memory.query_top_k = 0;
    spec.memory.writeback = false;
    spec.limits.timeout = Span(Duration::from_secs(24 * 3_600));
    spec.capabilities.insert("can_create_tasks".into(), true);
    with_policy(spec, policy)
}

/// Tools by the words of a script.
fn tools() -> Vec<Tool> {
    let http = |name: &str, effect: Option<Effect>| ToolSpec {
        kind: ToolKind::Http,
        effect,
        url: Some("https://tools.example/run".into()),
        timeout: Some(Span(Duration::from_secs(20))),
        ..ToolSpec::builtin(name)
    };
    let asks = ToolSpec {
        approval: ApprovalRule::Always,
        ..http("ask", None)
    };
    let child = ToolSpec {
        kind: ToolKind::Agent,
        agent: "helper".parse().ok(),
        ..ToolSpec::builtin("child")
    };
    let mut all = vec![
        http("look", Some(Effect::Pure)),
        http("put", Some(Effect::Idempotent)),
        http("once", None),
        asks,
        child,
    ];
    all.extend(["sleep", "wait_signal", "create_task"].map(ToolSpec::builtin));
    all.into_iter().map(|tool| Tool(Box::new(tool))).collect()
}
