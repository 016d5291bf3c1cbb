//! What readers of everything are told: committed records and events as pushes, by topic, name and data. Pure.

use mesh_api::Caller;
use mesh_api::Role;
use mesh_api::execution::State;
use mesh_api::fleet::Viewer;
use mesh_api::journal::{About, Ended, Fact, Outcome, Record, Resolution, Signalled, WaitItem, WaitOn};
use mesh_types::fleet::{NodeMode, Sharing};
use mesh_types::{AgentName, InvocationId, NodeId, Problem, Tenant, fleet_policy};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::topic::Topic;

/// One thing to tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Push {
    pub(crate) topic: Topic,
    pub(crate) event: String,
    pub(crate) data: Value,
    pub(crate) audience: Audience,
}

/// Who of a tenant's readers is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Audience {
    Tenant,
    /// Whoever sees the node.
    Node(Box<NodeSeen>),
    /// Owners, and who did it.
    Actor(String),
}

/// What of a node decides who sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeSeen {
    pub(crate) tenant: Tenant,
    pub(crate) owner: String,
    pub(crate) mode: NodeMode,
    pub(crate) sharing: Sharing,
}

impl NodeSeen {
    pub(crate) fn is_seen_by(&self, caller: &Caller) -> bool {
        let facts = fleet_policy::NodeFacts {
            tenant: &self.tenant,
            owner: &self.owner,
            mode: self.mode,
            sharing: &self.sharing,
        };
        fleet_policy::sees(Viewer::of(caller).in_tenant(&caller.tenant), facts)
    }
}

impl Audience {
    pub(crate) fn has(&self, caller: &Caller) -> bool {
        match self {
            Self::Tenant => true,
            Self::Node(seen) => seen.is_seen_by(caller),
            // Without a role: the mesh's own services.
            Self::Actor(actor) => caller.role.is_none_or(|role| role.covers(Role::Owner)) || *actor == caller.actor,
        }
    }
}

/// A committed record with what is known of its invocation.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) batch: u64,
    pub(crate) ordinal: u32,
    pub(crate) invocation: InvocationId,
    pub(crate) agent: AgentName,
    pub(crate) version: u32,
    pub(crate) session: Option<String>,
    pub(crate) record: Record,
}

/// Kinds of records that no list shows.
pub(crate) const UNSAID: [&str; 3] = ["begun", "done", "cancel_requested"];

/// The pushes of a record, in their order: the same whenever and by whomever they are made.
pub(crate) fn of_note(note: &Note) -> Vec<Push> {
    let state = |event: &'static str, state: State, more: Value| note.push(event, Some(state), more);
    match &note.record.fact {
        Fact::Begun(_) | Fact::Done(_) | Fact::CancelRequested(_) => Vec::new(),
        Fact::Accepted(accepted) => {
            vec![state(
                "invocation.queued",
                State::Queued,
                json!({"actor": accepted.actor}),
            )]
        }
        Fact::Claimed(claimed) => {
            vec![state(
                "invocation.running",
                State::Running,
                json!({"holder": claimed.holder}),
            )]
        }
        Fact::Released(released) => {
            vec![state(
                "invocation.queued",
                State::Queued,
                json!({"reason": released.reason}),
            )]
        }
        Fact::Waiting(waiting) => {
            let more = json!({"waits_for": waiting.items});
            let asked = waiting.items.iter().filter_map(|item| note.request(item));
            let mut said = vec![state("invocation.waiting", State::Waiting, more)];
            said.extend(asked);
            said
        }
        Fact::Signalled(signalled) => note.decision(signalled).into_iter().collect(),
        Fact::Paused(paused) => vec![note.push(
            "invocation.paused",
            None,
            json!({"paused": true, "by": paused.actor, "reason": paused.reason}),
        )],
        Fact::Resumed(resumed) => vec![note.push(
            "invocation.resumed",
            None,
            json!({"paused": false, "by": resumed.actor, "reason": resumed.reason}),
        )],
        Fact::Ended(ended) => of_end(note, ended),
    }
}

fn of_end(note: &Note, ended: &Ended) -> Vec<Push> {
    let is = State::from(ended.outcome);
    let event = match is {
        State::Completed => "invocation.completed",
        State::Failed => "invocation.failed",
        State::Cancelled => "invocation.cancelled",
        _ => "invocation.dead",
    };
    let more = json!({
        "reason": ended.reason, "error": ended.error, "usage": ended.usage, "provider": ended.provider,
    });
    let mut said = vec![note.push(event, Some(is), more)];
    if ended.outcome == Outcome::Dead {
        said.push(note.dead(ended.reason.as_deref(), ended.error.as_ref()));
    }
    said
}

impl Note {
    fn push(&self, event: &'static str, state: Option<State>, more: Value) -> Push {
        let mut data = json!({
            "id": self.invocation, "agent": self.agent, "version": self.version, "session": self.session,
        });
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            if let Some(state) = state {
                data.insert("state".into(), json!(state));
            }
            data.extend(more);
        }
        self.stamped(Topic::Invocations, event, data)
    }

    fn about(&self, event: &'static str, id: &str, mut data: Value) -> Push {
        if let Value::Object(data) = &mut data {
            data.insert("id".into(), json!(id));
            data.insert("agent".into(), json!(self.agent));
            data.insert("session".into(), json!(self.session));
        }
        self.stamped(Topic::Invocations, event, data)
    }

    fn stamped(&self, topic: Topic, event: &'static str, mut data: Value) -> Push {
        if let Value::Object(data) = &mut data {
            data.insert("seq".into(), json!(self.record.seq));
            data.insert("epoch".into(), json!(self.record.epoch));
            data.insert("at".into(), json!(self.record.at));
        }
        Push {
            topic,
            event: event.to_owned(),
            data,
            audience: Audience::Tenant,
        }
    }

    /// How a request was decided, and by whom.
    fn decision(&self, signalled: &Signalled) -> Option<Push> {
        let (step, decision) = match &signalled.about {
            About::Approval { step, approved: true } => (step, "approve"),
            About::Approval { step, .. } => (step, "deny"),
            About::Resolved { step, how } => match how {
                Resolution::RunAgain | Resolution::Done { .. } => (step, "approve"),
                Resolution::Failed { .. } => (step, "deny"),
            },
            _ => return None,
        };
        let data = json!({
            "invocation": self.invocation, "step": step, "decision": decision, "note": signalled.note,
            "by": signalled.actor,
        });
        Some(self.about("approval.decided", &self.approval(*step), data))
    }

    fn approval(&self, step: u32) -> String {
        format!("{}-{step}", self.invocation)
    }

    /// What a person is asked, without its input, which `GET /api/v1/approvals` has. A wait that is recorded anew asks
    /// for the same id again.
    fn request(&self, item: &WaitItem) -> Option<Push> {
        let (kind, name) = match &item.on {
            WaitOn::Approval { tool } => ("approval", tool),
            WaitOn::Ambiguous { name } => ("ambiguous", name),
            _ => return None,
        };
        let data = json!({
            "invocation": self.invocation, "step": item.step, "kind": kind, "name": name, "since": self.record.at,
        });
        Some(self.about("approval.requested", &self.approval(item.step), data))
    }

    fn dead(&self, reason: Option<&str>, error: Option<&Problem>) -> Push {
        let data = json!({"invocation": self.invocation, "agent": self.agent, "reason": reason, "error": error});
        self.stamped(Topic::DeadLetters, "dead-letter.added", data)
    }
}

/// An event of EVENTS as far as it is told on: a kind that this version does not know is told by its first word, too.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) tenant: Tenant,
    pub(crate) at: String,
    pub(crate) actor: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) data: Map<String, Value>,
}

impl Event {
    /// The node that it is of.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.kind.starts_with("node.").then_some(())?;
        self.data.get("node")?.as_str()?.parse().ok()
    }
}

/// The pushes of an event; `node` is what is known of the node that it is of.
pub(crate) fn of_event(event: Event, node: Option<NodeSeen>) -> Vec<Push> {
    let name = match event.kind.rsplit_once(".v") {
        // Pushes, as subjects and paths, write `dead-letter`.
        Some((name, _version)) => name.replace('_', "-"),
        None => event.kind.clone(),
    };
    let channel = || event.data.get("channel")?.as_str()?.parse().ok().map(Topic::Channel);
    let topics = match name.split('.').next().unwrap_or_default() {
        "agent" => vec![Topic::Agents],
        "node" => vec![Topic::Nodes],
        "pass" => vec![Topic::Passes],
        "memory" => vec![Topic::Memories],
        "knowledge" => vec![Topic::Knowledge],
        "channel" | "message" => [Topic::Channels].into_iter().chain(channel()).collect(),
        "service" => vec![Topic::Services],
        "model" => vec![Topic::Models],
        "audit" => vec![Topic::Audit],
        "dead-letter" => vec![Topic::DeadLetters],
        _ => Vec::new(),
    };
    let audience = match (topics.first(), node) {
        (Some(Topic::Nodes), Some(node)) => Audience::Node(Box::new(node)),
        // Of a node that nothing is known of: nobody's.
        (Some(Topic::Nodes), None) => return Vec::new(),
        (Some(Topic::Audit), _) => Audience::Actor(event.actor.clone()),
        _ => Audience::Tenant,
    };
    let mut data = event.data;
    data.insert("id".into(), json!(event.id));
    data.insert("at".into(), json!(event.at));
    data.insert("actor".into(), json!(event.actor));
    let data = Value::Object(data);
    let push = |topic| Push {
        topic,
        event: name.clone(),
        data: data.clone(),
        audience: audience.clone(),
    };
    topics.into_iter().map(push).collect()
}
