//! One entry a service: what it answers, asks, tells, reads and writes. A new call of an endpoint or a stream gets a word
//! here, else the server refuses it, and the mesh of separate processes in the end-to-end tests fails.

use mesh_api::execution::{ExecutionDemand, InvocationAccept, InvocationGet};
use mesh_api::fleet::{NodeAll, NodeGet, NodeRegister, NodeReportedMode, PlacedAll};
use mesh_api::heartbeat::ObservedAll;
use mesh_api::identity::AuditNote;
use mesh_api::inference::{Complete, Embed};
use mesh_api::memory::{MemoryBatch, MemoryQuery, MemoryStore};
use mesh_api::messaging::{ChannelHistory, MessagePost};
use mesh_api::node::{TicketHeld, TicketKeyGet};
use mesh_api::registry::{AgentResolve, AgentVersions, ArtifactGet};
use mesh_types::Subject;
use mesh_types::subject::{Family, Filter};

use super::table::{Table, token};
use super::{USER_PREFIX, User};
use crate::topology::{audit, intake};
use crate::{Bucket, StreamName};

/// The user of a mesh that is all in one process, and of the tools on its machine.
const WHOLE: &str = "mesh";
/// The user of identity's connection to the system account.
const SYSTEM: &str = "mesh-system";

/// A user for each service.
#[must_use]
pub fn services() -> Vec<User> {
    SERVICES.iter().map(|(name, table)| user(name, table)).collect()
}

/// Every user of the mesh's own account: services, jobs, and the one of all together.
#[must_use]
pub fn all() -> Vec<User> {
    let jobs = JOBS.iter().map(|(name, table)| user(name, table));
    services().into_iter().chain(jobs).chain([whole()]).collect()
}

/// All services in one process, and what is measured there.
#[must_use]
pub fn whole() -> User {
    let parts = SERVICES.iter().chain(&JOBS).map(|(_, table)| table(Table::default()));
    let table = parts.fold(Table::of(WHOLE), Table::with);
    // `mesh bench` speaks as clients and nodes do.
    let table = table
        .says(Filter::Invocations)
        .says(Subject::RouterInvoke)
        .says(Filter::Calls)
        .says(Filter::Heartbeats)
        .says(Filter::HealthReports)
        .hears(Filter::OfTenants(Family::Reply));
    User {
        service: WHOLE,
        user: WHOLE.to_owned(),
        permissions: table.permissions(),
    }
}

/// In the system account: cuts connections off whose credential is none any more.
#[must_use]
pub fn system() -> User {
    let inbox = Filter::InboxesOf(token(SYSTEM).into());
    let table = Table::default()
        .says(&inbox)
        .hears(inbox)
        .says(Filter::Connections)
        .says(Filter::Kicks);
    User {
        service: "identity",
        user: SYSTEM.to_owned(),
        permissions: table.permissions(),
    }
}

fn user(service: &'static str, table: &dyn Fn(Table) -> Table) -> User {
    let user = format!("{USER_PREFIX}{service}");
    let permissions = table(Table::of(&user)).permissions();
    User {
        service,
        user,
        permissions,
    }
}

type Entry = (&'static str, fn(Table) -> Table);

const SERVICES: [Entry; 9] = [
    ("registry", registry),
    ("identity", identity),
    ("heartbeat", heartbeat),
    ("execution", execution),
    ("messaging", messaging),
    ("memory", memory),
    ("inference", inference),
    ("reconciler", reconciler),
    ("gateway", gateway),
];

/// What runs once and ends.
const JOBS: [Entry; 4] = [
    ("migrate", Table::applies_topology),
    ("seed", seed),
    ("backup", Table::copies_streams_out),
    ("restore", restore),
];

fn registry(table: Table) -> Table {
    answers_nodes(table.serves("registry"))
        .tells(&["tenant", "agent", "node"])
        .says(Filter::Bells)
        .writes_keys(Bucket::Agents)
        .reads_keys(Bucket::Assignments)
}

fn identity(table: Table) -> Table {
    table
        .serves("identity")
        .asks::<NodeRegister>()
        .asks::<NodeGet>()
        .asks::<NodeAll>()
        .hears_of(&["node"])
        .tells(&["audit"])
        .pulls(&audit())
        .hears(Filter::UserAuth)
        .says(Filter::UserAuthAnswers)
}

fn heartbeat(table: Table) -> Table {
    table
        .serves("heartbeat")
        .asks::<NodeAll>()
        .asks::<NodeReportedMode>()
        .asks::<AuditNote>()
        .hears(Filter::Heartbeats)
        .hears(Filter::HealthReports)
        .hears_of(&["node"])
        .tells(&["node"])
        .writes_keys(Bucket::Presence)
}

fn execution(table: Table) -> Table {
    answers_nodes(table.serves("execution"))
        // Instances ask each other.
        .hears(Filter::Executions)
        .says(Filter::Executions)
        .asks::<InvocationAccept>()
        .asks::<AgentVersions>()
        .asks::<AgentResolve>()
        .asks::<ArtifactGet>()
        .asks::<ChannelHistory>()
        .asks::<MessagePost>()
        .asks::<MemoryQuery>()
        .asks::<MemoryBatch>()
        .asks::<MemoryStore>()
        .streams::<Complete>()
        .hears(Filter::Calls)
        .says(Filter::OfTenants(Family::Reply))
        .pulls(&intake())
        .says(Filter::JournalAll)
        .reads(StreamName::Journal)
        .says(Filter::TokensAll)
        .hears(Filter::TokensAll)
        .hears_of(&["node"])
        .tells(&["pause", "dead-letter"])
        .says(Filter::Bells)
        .reads_keys(Bucket::Agents)
        .reads_keys(Bucket::Assignments)
}

fn messaging(table: Table) -> Table {
    answers_nodes(table.serves("messaging")).tells(&["channel"])
}

fn memory(table: Table) -> Table {
    answers_nodes(table.serves("memory"))
        .asks::<AgentResolve>()
        .asks::<ArtifactGet>()
        .asks::<InvocationAccept>()
        .asks::<InvocationGet>()
        .asks::<Embed>()
        .tells(&["memory", "knowledge"])
}

fn inference(table: Table) -> Table {
    answers_nodes(table.serves("inference")).tells(&["model"])
}

fn reconciler(table: Table) -> Table {
    table
        .serves("reconciler")
        .asks::<ExecutionDemand>()
        .asks::<PlacedAll>()
        .asks::<ObservedAll>()
        .asks::<NodeAll>()
        .discovers()
        .hears_of(&["node", "agent"])
        .tells(&["pass", "service"])
        .says(Filter::Bells)
        .reads_keys(Bucket::Presence)
        .writes_keys(Bucket::Assignments)
}

/// The edge asks everybody, in the name of whoever came; what it may not ask for them, its routes say.
fn gateway(table: Table) -> Table {
    table
        .says(Filter::Asked)
        .hears(Filter::NodesAsk(token("gateway")))
        .says(Filter::Tunnels)
        .discovers()
        .hears(Filter::Events)
        .hears(Filter::JournalAll)
        .hears(Filter::TokensAll)
        .follows(StreamName::Events)
        .reads(StreamName::Tokens)
        .reads(StreamName::Journal)
        .writes_keys(Bucket::Pushes)
}

/// Nodes show a ticket: who made it, and whether its claim is held, is asked; what is refused is noted.
fn answers_nodes(table: Table) -> Table {
    table
        .asks::<TicketKeyGet>()
        .asks::<TicketHeld>()
        .asks::<NodeGet>()
        .asks::<AuditNote>()
}

/// The first credentials and the demo.
fn seed(table: Table) -> Table {
    ["registry", "identity"]
        .iter()
        .fold(table, |table, service| table.says(Filter::AskedOf(token(service))))
        .discovers()
}

/// Looks whether services answer, for they must not while their streams are replaced.
fn restore(table: Table) -> Table {
    table.applies_topology().copies_streams_in().discovers()
}
