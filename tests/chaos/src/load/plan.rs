//! What clients ask for in a run, drawn from its seed. Pure.

use serde_json::{Map, Value, json};

use crate::draw::Draw;
use crate::options::With;

/// One idempotency key, how it is sent, and what else happens to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub(crate) at_ms: u64,
    pub(crate) key: String,
    pub(crate) agent: &'static str,
    pub(crate) body: Map<String, Value>,
    pub(crate) road: Road,
    pub(crate) session: Option<String>,
    pub(crate) channel: Option<String>,
    /// Sent again by this road after so long, although it was accepted.
    pub(crate) again: Option<(Road, u64)>,
    pub(crate) wants_reply: bool,
    /// Somebody reads its events.
    pub(crate) followed: bool,
    /// Cancelled so long after it was accepted.
    pub(crate) cancelled_after_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Road {
    Http,
    Nats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Noop,
    Later,
    Text,
    Channel,
    Session,
    Tools,
    Child,
    Approval,
    Task,
    Memory,
    Placed,
}

pub(crate) const NOOP: &str = "chaos-noop";
pub(crate) const TEXT: &str = "chaos-text";
pub(crate) const CHANNEL: &str = "chaos-channel";
pub(crate) const SESSION: &str = "chaos-session";
pub(crate) const TOOLS: &str = "chaos-tools";
pub(crate) const PARENT: &str = "chaos-parent";
pub(crate) const TASKS: &str = "chaos-tasks";
pub(crate) const MEMORY: &str = "chaos-memory";
pub(crate) const PLACED: &str = "chaos-placed";

/// Tools of the ledger by class; the last asks a person first.
pub(crate) const LEDGER_TOOLS: [(&str, &str); 4] = [
    ("ledger_pure", "pure"),
    ("ledger_idempotent", "idempotent"),
    ("ledger_at_most_once", "at_most_once"),
    ("ledger_approved", "at_most_once"),
];
const SESSIONS: u64 = 6;

/// All asks of a run in order of time, spread over `milliseconds`.
pub(crate) fn asks(seed: u64, count: usize, milliseconds: u64, with: &[With]) -> Vec<Ask> {
    let mut draw = Draw::of(seed, "load");
    let has = |wanted: With| u64::from(with.contains(&wanted));
    let kinds = [
        (30, Kind::Noop),
        (8, Kind::Later),
        (25, Kind::Text),
        (12, Kind::Channel),
        (20 * has(With::Sessions), Kind::Session),
        (20 * has(With::Tools), Kind::Tools),
        (8 * has(With::Children), Kind::Child),
        (5 * has(With::Approvals), Kind::Approval),
        (6 * has(With::Tasks), Kind::Task),
        (6 * has(With::Memories), Kind::Memory),
        (14 * has(With::Nodes), Kind::Placed),
    ];
    let mut asks: Vec<Ask> = (0..count)
        .filter_map(|number| {
            let kind = draw.weighted(&kinds)?;
            Some(ask(format!("c{seed}-{number}"), kind, milliseconds, &mut draw))
        })
        .collect();
    asks.sort_by_key(|ask| ask.at_ms);
    asks
}

fn ask(key: String, kind: Kind, milliseconds: u64, draw: &mut Draw) -> Ask {
    let road = if draw.percent(50) { Road::Http } else { Road::Nats };
    let (agent, text) = match kind {
        Kind::Noop | Kind::Later => (NOOP, format!("{key} say")),
        Kind::Text => (TEXT, format!("{key} say")),
        Kind::Channel => (CHANNEL, format!("{key} say")),
        Kind::Session => (SESSION, format!("{key} say")),
        Kind::Tools => (TOOLS, format!("{key} use {}", tools(draw))),
        Kind::Child => (PARENT, format!("{key} use helper")),
        Kind::Approval => (TOOLS, format!("{key} use {}", LEDGER_TOOLS[3].0)),
        Kind::Task => (TASKS, format!("{key} use create_task")),
        Kind::Memory => (MEMORY, format!("{key} say")),
        Kind::Placed => (PLACED, format!("{key} use {}", tools(draw))),
    };
    let mut body = Map::new();
    let mut payload = json!({"text": text});
    let channel = (kind == Kind::Channel).then(|| format!("channel-{key}"));
    if let Some(channel) = &channel {
        payload["channel_id"] = json!(channel);
    }
    body.insert("payload".into(), payload);
    let session = (kind == Kind::Session).then(|| format!("session-{}", draw.between(0, SESSIONS)));
    if let Some(session) = &session {
        body.insert("session".into(), json!(session));
    } else if draw.percent(20) {
        body.insert("priority".into(), json!(draw.between(0, 10)));
    }
    if kind == Kind::Later {
        body.insert("delay_ms".into(), json!(draw.between(50, 4_000)));
    }
    let wants_reply = road == Road::Nats && draw.percent(30);
    if wants_reply {
        body.insert("reply_to".into(), json!(format!("mesh.reply.default.{key}")));
    }
    let other = if draw.percent(30) { Road::Http } else { road };
    Ask {
        at_ms: draw.between(0, milliseconds),
        agent,
        body,
        road,
        session,
        channel,
        again: draw.percent(12).then(|| (other, draw.between(0, 3_000))),
        wants_reply,
        followed: draw.percent(12),
        cancelled_after_ms: draw.percent(cancels(kind)).then(|| draw.between(0, 500)),
        key,
    }
}

/// How many of a hundred are cancelled. A node is asked to let go of what it holds, which takes a while.
fn cancels(kind: Kind) -> u64 {
    match kind {
        Kind::Session => 0,
        Kind::Placed => 12,
        _ => 3,
    }
}

/// One to three of the classes.
fn tools(draw: &mut Draw) -> String {
    let mut names: Vec<&str> = LEDGER_TOOLS[..3]
        .iter()
        .map(|(name, _)| *name)
        .filter(|_| draw.percent(60))
        .collect();
    if names.is_empty() {
        names.push(LEDGER_TOOLS[2].0);
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_asks_the_same_and_what_is_not_there_is_not_asked_for() {
        let plain = asks(3, 300, 1_000, &[]);
        assert_eq!(plain, asks(3, 300, 1_000, &[]));
        assert!(plain.iter().all(|ask| [NOOP, TEXT, CHANNEL].contains(&ask.agent)));
        assert!(plain.iter().all(|ask| ask.session.is_none() && ask.at_ms < 1_000));
        let all = asks(3, 300, 1_000, &With::ALL);
        for agent in [NOOP, TEXT, CHANNEL, SESSION, TOOLS, PARENT, TASKS, MEMORY, PLACED] {
            assert!(all.iter().any(|ask| ask.agent == agent), "{agent}");
        }
        let keys: std::collections::BTreeSet<_> = all.iter().map(|ask| &ask.key).collect();
        assert_eq!(keys.len(), 300);
    }
}
