//! Every subject of the mesh is a variant here; `Display` and `FromStr` are inverses. No subject literal stands elsewhere.

use std::fmt;
use std::str::FromStr;

use crate::id::{Id, InvocationId};
use crate::name::{AgentName, NameError, NodeId, Tenant, Token};

/// A subject that messages are published to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Durable inbox of one agent.
    Invoke {
        tenant: Tenant,
        agent: AgentName,
    },
    /// Durable inbox with the agent in the body, kept from the replaced router.
    RouterInvoke,
    /// Request/reply call of one agent.
    Call {
        tenant: Tenant,
        agent: AgentName,
    },
    /// Endpoint of a service, answered by any of its instances.
    Service {
        service: Token,
        endpoint: Token,
    },
    /// Command to one execution process, named by its instance.
    Execution {
        instance: Token,
        command: Token,
    },
    /// Committed records of one invocation.
    Journal {
        tenant: Tenant,
        invocation: InvocationId,
    },
    /// Highest batch of a shard that JOURNAL has seen, to notice a database that went back.
    JournalMark {
        shard: u16,
    },
    /// Streamed tokens of one invocation.
    Tokens {
        tenant: Tenant,
        invocation: InvocationId,
    },
    Event {
        tenant: Tenant,
        kind: Token,
        id: Token,
        verb: Token,
    },
    /// What could not be handled; `origin` names the service or stream.
    Dead {
        tenant: Tenant,
        origin: Token,
    },
    Heartbeat {
        node: NodeId,
    },
    Health {
        node: NodeId,
    },
    /// Endpoint of a service as a node may ask it: who asks is in the subject.
    NodeService {
        node: NodeId,
        service: Token,
        endpoint: Token,
    },
    Bell {
        node: NodeId,
    },
    Tunnel {
        node: NodeId,
    },
    /// Asks a nats-server, by its id, to cut off one connection; in its system account.
    KickConnection {
        server: Token,
    },
    /// Where a result may be sent to besides an inbox.
    Reply {
        tenant: Tenant,
        rest: String,
    },
    /// A private inbox of some client.
    Inbox {
        rest: String,
    },
}

/// Longest free rest of a reply subject in bytes; the server cuts connections at lines near 4 KB.
const REST_LENGTH_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error("`{0}` is no subject of the mesh")]
    Unknown(String),
    #[error("{subject}: {source}")]
    Name { subject: String, source: NameError },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoke { tenant, agent } => write!(f, "mesh.invoke.{tenant}.{agent}"),
            Self::RouterInvoke => f.write_str("router.invoke.agent"),
            Self::Call { tenant, agent } => write!(f, "mesh.call.{tenant}.{agent}"),
            Self::Service { service, endpoint } => write!(f, "mesh.svc.{service}.{endpoint}"),
            Self::Execution { instance, command } => write!(f, "mesh.execution.{instance}.{command}"),
            Self::Journal { tenant, invocation } => write!(f, "mesh.journal.{tenant}.{invocation}"),
            Self::JournalMark { shard } => write!(f, "mesh.journal._shard.{shard}"),
            Self::Tokens { tenant, invocation } => write!(f, "mesh.token.{tenant}.{invocation}"),
            Self::Event { tenant, kind, id, verb } => write!(f, "mesh.event.{tenant}.{kind}.{id}.{verb}"),
            Self::Dead { tenant, origin } => write!(f, "mesh.dead.{tenant}.{origin}"),
            Self::Heartbeat { node } => write!(f, "mesh.heartbeat.{node}"),
            Self::Health { node } => write!(f, "mesh.health.{node}"),
            Self::NodeService {
                node,
                service,
                endpoint,
            } => write!(f, "mesh.node.{node}.{service}.{endpoint}"),
            Self::Bell { node } => write!(f, "mesh.bell.{node}"),
            Self::Tunnel { node } => write!(f, "mesh.tunnel.{node}"),
            Self::KickConnection { server } => write!(f, "$SYS.REQ.SERVER.{server}.KICK"),
            Self::Reply { tenant, rest } => write!(f, "mesh.reply.{tenant}.{rest}"),
            Self::Inbox { rest } => write!(f, "_INBOX.{rest}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if let Some(rest) = text.strip_prefix("_INBOX.") {
            return free_rest(text, rest).map(|rest| Self::Inbox { rest });
        }
        if let Some(rest) = text.strip_prefix("mesh.reply.") {
            let (tenant, rest) = rest.split_once('.').ok_or_else(|| unknown(text))?;
            let rest = free_rest(text, rest)?;
            return Ok(Self::Reply {
                tenant: name(text, tenant)?,
                rest,
            });
        }
        let parts: Vec<&str> = text.split('.').collect();
        Ok(match parts.as_slice() {
            ["router", "invoke", "agent"] => Self::RouterInvoke,
            ["mesh", "invoke", t, a] => Self::Invoke {
                tenant: name(text, t)?,
                agent: name(text, a)?,
            },
            ["mesh", "call", t, a] => Self::Call {
                tenant: name(text, t)?,
                agent: name(text, a)?,
            },
            ["mesh", "svc", s, e] => Self::Service {
                service: name(text, s)?,
                endpoint: name(text, e)?,
            },
            ["mesh", "execution", i, c] => Self::Execution {
                instance: name(text, i)?,
                command: name(text, c)?,
            },
            ["mesh", "journal", "_shard", n] => Self::JournalMark { shard: shard(text, n)? },
            ["mesh", "journal", t, i] => Self::Journal {
                tenant: name(text, t)?,
                invocation: id(text, i)?,
            },
            ["mesh", "token", t, i] => Self::Tokens {
                tenant: name(text, t)?,
                invocation: id(text, i)?,
            },
            ["mesh", "event", t, k, i, v] => Self::Event {
                tenant: name(text, t)?,
                kind: name(text, k)?,
                id: name(text, i)?,
                verb: name(text, v)?,
            },
            ["mesh", "dead", t, o] => Self::Dead {
                tenant: name(text, t)?,
                origin: name(text, o)?,
            },
            ["mesh", "heartbeat", n] => Self::Heartbeat { node: name(text, n)? },
            ["mesh", "health", n] => Self::Health { node: name(text, n)? },
            ["mesh", "node", n, s, e] => Self::NodeService {
                node: name(text, n)?,
                service: name(text, s)?,
                endpoint: name(text, e)?,
            },
            ["mesh", "bell", n] => Self::Bell { node: name(text, n)? },
            ["mesh", "tunnel", n] => Self::Tunnel { node: name(text, n)? },
            ["$SYS", "REQ", "SERVER", s, "KICK"] => Self::KickConnection { server: name(text, s)? },
            _ => return Err(unknown(text)),
        })
    }
}

/// Subjects whose second token is one word and whose third is a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    Invoke,
    Call,
    Journal,
    Token,
    Event,
    Dead,
    Reply,
}

impl Family {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Call => "call",
            Self::Journal => "journal",
            Self::Token => "token",
            Self::Event => "event",
            Self::Dead => "dead",
            Self::Reply => "reply",
        }
    }
}

/// What a subscription or a stream listens to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    Invocations,
    Calls,
    JournalAll,
    JournalOf(Tenant),
    TokensAll,
    TokensOf(Tenant),
    Events,
    EventsOf(Tenant),
    /// Events of one kind, such as `node`, of every tenant.
    EventsAbout(Token),
    Dead,
    /// Heartbeats of every node.
    Heartbeats,
    /// Health reports of every node.
    HealthReports,
    /// One endpoint of a service, as any node asks it.
    Nodes {
        service: Token,
        endpoint: Token,
    },
    /// Whatever one node asks of services.
    NodeAsks(NodeId),
    /// Where one node awaits answers; clients make up the rest.
    InboxesOf(NodeId),
    /// All of one family, of one tenant.
    OfTenant(Family, Tenant),
    /// All of one family, of every tenant.
    OfTenants(Family),
    /// Events of one kind, of one tenant.
    EventsOfKind(Tenant, Token),
    /// Every endpoint of a service, as services ask it.
    AskedOf(Token),
    /// Every endpoint of every service.
    Asked,
    /// Every endpoint of a service, as nodes ask it.
    NodesAsk(Token),
    /// Commands to execution processes.
    Executions,
    Bells,
    Tunnels,
    /// Wherever somebody awaits answers.
    Inboxes,
    /// What nats-server asks of who may connect.
    UserAuth,
    /// Where it awaits the answer to that.
    UserAuthAnswers,
    /// Asks nats-servers, in their system account, which connections they have.
    Connections,
    /// Asks any nats-server to cut off a connection.
    Kicks,
    /// Exactly one subject.
    Only(Subject),
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invocations => f.write_str("mesh.invoke.*.*"),
            Self::Calls => f.write_str("mesh.call.*.*"),
            Self::JournalAll => f.write_str("mesh.journal.*.*"),
            Self::JournalOf(tenant) => write!(f, "mesh.journal.{tenant}.*"),
            Self::TokensAll => f.write_str("mesh.token.*.*"),
            Self::TokensOf(tenant) => write!(f, "mesh.token.{tenant}.*"),
            Self::Events => f.write_str("mesh.event.*.*.*.*"),
            Self::EventsOf(tenant) => write!(f, "mesh.event.{tenant}.*.*.*"),
            Self::EventsAbout(kind) => write!(f, "mesh.event.*.{kind}.*.*"),
            Self::Heartbeats => f.write_str("mesh.heartbeat.*"),
            Self::HealthReports => f.write_str("mesh.health.*"),
            Self::Dead => f.write_str("mesh.dead.*.*"),
            Self::Nodes { service, endpoint } => write!(f, "mesh.node.*.{service}.{endpoint}"),
            Self::NodeAsks(node) => write!(f, "mesh.node.{node}.>"),
            Self::InboxesOf(node) => write!(f, "_INBOX.{node}.>"),
            Self::OfTenant(family, tenant) => write!(f, "mesh.{}.{tenant}.>", family.as_str()),
            Self::OfTenants(family) => write!(f, "mesh.{}.>", family.as_str()),
            Self::EventsOfKind(tenant, kind) => write!(f, "mesh.event.{tenant}.{kind}.*.*"),
            Self::AskedOf(service) => write!(f, "mesh.svc.{service}.*"),
            Self::Asked => f.write_str("mesh.svc.*.*"),
            Self::NodesAsk(service) => write!(f, "mesh.node.*.{service}.*"),
            Self::Executions => f.write_str("mesh.execution.*.*"),
            Self::Bells => f.write_str("mesh.bell.*"),
            Self::Tunnels => f.write_str("mesh.tunnel.*"),
            Self::Inboxes => f.write_str("_INBOX.>"),
            Self::UserAuth => f.write_str("$SYS.REQ.USER.AUTH"),
            Self::UserAuthAnswers => f.write_str("$SYS._INBOX.>"),
            Self::Connections => f.write_str("$SYS.REQ.SERVER.PING.CONNZ"),
            Self::Kicks => f.write_str("$SYS.REQ.SERVER.*.KICK"),
            Self::Only(subject) => subject.fmt(f),
        }
    }
}

/// A subject that a caller asked its result to be sent to: an inbox, or below the tenant's own replies.
pub fn parse_reply_to(text: &str, tenant: &Tenant) -> Result<Subject, SubjectError> {
    match text.parse()? {
        Subject::Reply { tenant: named, rest } if named == *tenant => Ok(Subject::Reply { tenant: named, rest }),
        Subject::Inbox { rest } => Ok(Subject::Inbox { rest }),
        _ => Err(unknown(text)),
    }
}

/// Whether a question may be answered where it asks to be. An answer is published with the service's own rights, so
/// nodes and callers of agents, who choose that subject freely, are answered in an inbox only, callers also below the
/// replies of the tenant they call.
pub fn may_answer(asked_at: &str, reply: &str) -> bool {
    let is_inbox = reply.starts_with("_INBOX.");
    if let Some(called) = asked_at.strip_prefix("mesh.call.") {
        let below = reply.strip_prefix("mesh.reply.").and_then(|rest| rest.split_once('.'));
        return is_inbox || below.is_some_and(|(tenant, _)| called.split('.').next() == Some(tenant));
    }
    is_inbox || !asked_at.starts_with("mesh.node.")
}

fn unknown(text: &str) -> SubjectError {
    SubjectError::Unknown(text.chars().take(120).flat_map(char::escape_debug).collect())
}

fn name<T: FromStr<Err = NameError> + fmt::Display>(subject: &str, part: &str) -> Result<T, SubjectError> {
    let parsed: T = part.parse().map_err(|source| SubjectError::Name {
        subject: subject.chars().take(120).flat_map(char::escape_debug).collect(),
        source,
    })?;
    // `agent:sofia` is a name at the edge but no subject token: one subject has one spelling.
    if parsed.to_string() == part {
        Ok(parsed)
    } else {
        Err(unknown(subject))
    }
}

fn id<T: Id + FromStr>(subject: &str, part: &str) -> Result<T, SubjectError> {
    part.parse().map_err(|_| unknown(subject))
}

fn shard(subject: &str, part: &str) -> Result<u16, SubjectError> {
    let number: u16 = part.parse().map_err(|_| unknown(subject))?;
    if number.to_string() == part {
        Ok(number)
    } else {
        Err(unknown(subject))
    }
}

fn free_rest(subject: &str, rest: &str) -> Result<String, SubjectError> {
    let ok = rest.len() <= REST_LENGTH_MAX
        && rest.split('.').all(|token| {
            !token.is_empty()
                && token
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        });
    if ok { Ok(rest.to_owned()) } else { Err(unknown(subject)) }
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
