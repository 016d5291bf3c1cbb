//! Consolidations: which memories wait for theirs, which invocation took which, and how it ended.

use mesh_store::{IdExt, every_tenant_tx};
use mesh_types::{AgentName, InvocationId, MemoryId, Tenant, Timestamp};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::{Row, columns};

/// Text that one consolidation takes, in bytes: a prompt holds it with room for the answer. Two of the longest fit.
const BYTES_MAX: i64 = 64 * 1024;

/// One invocation and what it condenses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Consolidation {
    pub(crate) agent: AgentName,
    pub(crate) owner: String,
    pub(crate) invocation: InvocationId,
    pub(crate) memories: Vec<MemoryId>,
    /// In a row, before this one.
    pub(crate) failures: u32,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Consolidation {
    fn from_row(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        use sqlx::Row as _;
        let agent: String = row.try_get("agent")?;
        let memories: Vec<Uuid> = row.try_get("memories")?;
        let failures: i32 = row.try_get("failures")?;
        Ok(Self {
            agent: agent.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            owner: row.try_get("owner")?,
            invocation: IdExt::from_uuid(row.try_get("invocation")?),
            memories: memories.into_iter().map(IdExt::from_uuid).collect(),
            failures: failures.unsigned_abs(),
        })
    }
}

/// Names of all tenants that have memories.
pub(crate) async fn tenants(pool: &PgPool) -> Result<Vec<Tenant>, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    let names: Vec<String> = sqlx::query_scalar("SELECT tenant FROM memory.tenant ORDER BY tenant")
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let parse = |name: String| name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    names.into_iter().map(parse).collect()
}

/// What waits: as the index `memory_unconsolidated` has it. $1 is the tenant. Memories that all agents share are left
/// alone, as they are not the agent's to condense.
macro_rules! waits {
    () => {
        "m.tenant = $1 AND m.kind = 'episodic' AND m.consolidated_at IS NULL AND m.superseded_by IS NULL \
         AND m.scope <> 'tenant'"
    };
}

// From one agent to the next by the index, however many memories each has.
const AGENTS: &str = concat!(
    "WITH RECURSIVE waiting AS (
        (SELECT m.agent FROM memory.memory AS m WHERE ",
    waits!(),
    " ORDER BY m.agent LIMIT 1)
        UNION ALL
        SELECT (SELECT m.agent FROM memory.memory AS m WHERE ",
    waits!(),
    " AND m.agent > waiting.agent ORDER BY m.agent LIMIT 1) FROM waiting WHERE waiting.agent IS NOT NULL
    )
    SELECT agent FROM waiting WHERE agent IS NOT NULL"
);

/// Agents that have any memory that waits.
pub(crate) async fn agents(tx: &mut PgConnection, tenant: &Tenant) -> Result<Vec<AgentName>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(AGENTS).bind(tenant.as_str()).fetch_all(tx).await?;
    let parse = |name: String| name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    names.into_iter().map(parse).collect()
}

const OWNERS: &str = concat!(
    "SELECT m.owner FROM memory.memory AS m WHERE ",
    waits!(),
    " AND m.agent = $2 AND (m.expires_at IS NULL OR m.expires_at > $4)
    GROUP BY m.owner HAVING count(*) >= $3 ORDER BY count(*) DESC, m.owner"
);

/// Owners of the agent that have at least so many waiting, those with most first.
pub(crate) async fn owners(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: &AgentName,
    at_least: u32,
    now: Timestamp,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(OWNERS)
        .bind(tenant.as_str())
        .bind(agent.as_str())
        .bind(i64::from(at_least))
        .bind(now.to_chrono())
        .fetch_all(tx)
        .await
}

/// Who starts one, and whether a failure before holds it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A person wants it now.
    Now,
    /// Not before `next_at`.
    Paced,
}

/// What is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) agent: &'a AgentName,
    pub(crate) owner: &'a str,
    pub(crate) invocation: InvocationId,
    pub(crate) actor: &'a str,
    pub(crate) now: Timestamp,
}

// Its row is the lock: of two processes one finds it open.
const OPEN: &str = "INSERT INTO memory.consolidation AS c
        (tenant, agent, owner, invocation, memories, started_by, started_at, is_open, next_at)
    VALUES ($1, $2, $3, $4, '{}', $5, $6, true, $6)
    ON CONFLICT (tenant, agent, owner) DO UPDATE SET invocation = excluded.invocation,
        started_by = excluded.started_by, started_at = excluded.started_at, is_open = true
    WHERE NOT c.is_open AND ($7 OR c.next_at <= $6)
    RETURNING c.failures";

const TAKE: &str = concat!(
    "WITH oldest AS (
        SELECT m.id, m.created_at, octet_length(m.content) AS bytes FROM memory.memory AS m WHERE ",
    waits!(),
    " AND m.agent = $2 AND m.owner = $3 AND (m.expires_at IS NULL OR m.expires_at > $4)
        ORDER BY m.created_at, m.id LIMIT $5
    ), taken AS (
        SELECT id, sum(bytes) OVER (ORDER BY created_at, id) AS bytes,
            row_number() OVER (ORDER BY created_at, id) AS place
        FROM oldest
    ), marked AS (
        UPDATE memory.memory AS m SET consolidated_at = $4 FROM taken
        WHERE m.tenant = $1 AND m.id = taken.id AND (taken.bytes <= $6 OR taken.place <= 2)
            AND m.consolidated_at IS NULL
        RETURNING m.id, m.created_at
    )
    SELECT id FROM marked ORDER BY created_at, id"
);

const FILL: &str = "UPDATE memory.consolidation SET memories = $4 WHERE tenant = $1 AND agent = $2 AND owner = $3";

/// Takes the owner's oldest memories for that invocation, in one transaction with the row that says so. `None`, to be
/// rolled back: another one is under way or too soon, or fewer than two wait.
pub(crate) async fn start(
    tx: &mut PgConnection,
    start: Start<'_>,
    pace: Pace,
) -> Result<Option<Consolidation>, sqlx::Error> {
    let (tenant, agent) = (start.tenant.as_str(), start.agent.as_str());
    let failures: Option<i32> = sqlx::query_scalar(OPEN)
        .bind(tenant)
        .bind(agent)
        .bind(start.owner)
        .bind(start.invocation.to_uuid())
        .bind(start.actor)
        .bind(start.now.to_chrono())
        .bind(pace == Pace::Now)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(failures) = failures else {
        return Ok(None);
    };
    let ids: Vec<Uuid> = sqlx::query_scalar(TAKE)
        .bind(tenant)
        .bind(agent)
        .bind(start.owner)
        .bind(start.now.to_chrono())
        .bind(i64::try_from(mesh_api::memory::BATCH_MAX).unwrap_or(i64::MAX))
        .bind(BYTES_MAX)
        .fetch_all(&mut *tx)
        .await?;
    if ids.len() < 2 {
        return Ok(None);
    }
    sqlx::query(FILL)
        .bind(tenant)
        .bind(agent)
        .bind(start.owner)
        .bind(&ids)
        .execute(tx)
        .await?;
    Ok(Some(Consolidation {
        agent: start.agent.clone(),
        owner: start.owner.to_owned(),
        invocation: start.invocation,
        memories: ids.into_iter().map(IdExt::from_uuid).collect(),
        failures: failures.unsigned_abs(),
    }))
}

const OPEN_ONES: &str = "SELECT agent, owner, invocation, memories, failures FROM memory.consolidation
    WHERE tenant = $1 AND is_open AND ($2::text IS NULL OR agent = $2) ORDER BY started_at";

/// Those whose end is not known, oldest first; of one agent, if it is named.
pub(crate) async fn open(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: Option<&AgentName>,
) -> Result<Vec<Consolidation>, sqlx::Error> {
    sqlx::query_as(OPEN_ONES)
        .bind(tenant.as_str())
        .bind(agent.map(AgentName::as_str))
        .fetch_all(tx)
        .await
}

const OF_INVOCATION: &str = "SELECT agent, owner, invocation, memories, failures FROM memory.consolidation
    WHERE tenant = $1 AND invocation = $2 AND is_open";

/// The one that this invocation is, while it is under way.
pub(crate) async fn of_invocation(
    tx: &mut PgConnection,
    tenant: &Tenant,
    invocation: InvocationId,
) -> Result<Option<Consolidation>, sqlx::Error> {
    sqlx::query_as(OF_INVOCATION)
        .bind(tenant.as_str())
        .bind(invocation.to_uuid())
        .fetch_optional(tx)
        .await
}

const SETTLE: &str = "UPDATE memory.consolidation SET is_open = false,
        failures = CASE WHEN $3 THEN 0 ELSE failures + 1 END, next_at = $4
    WHERE tenant = $1 AND invocation = $2 AND is_open
    RETURNING memories";

const GIVE_BACK: &str = "UPDATE memory.memory SET consolidated_at = NULL WHERE tenant = $1 AND id = ANY($2)";

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// Its memories wait again.
    Failed,
}

/// Whether it was open still; the next one may start at `next_at`.
pub(crate) async fn settle(
    tx: &mut PgConnection,
    tenant: &Tenant,
    invocation: InvocationId,
    end: End,
    next_at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let memories: Option<Vec<Uuid>> = sqlx::query_scalar(SETTLE)
        .bind(tenant.as_str())
        .bind(invocation.to_uuid())
        .bind(end == End::Done)
        .bind(next_at.to_chrono())
        .fetch_optional(&mut *tx)
        .await?;
    let Some(memories) = memories else {
        return Ok(false);
    };
    if end == End::Failed {
        sqlx::query(GIVE_BACK)
            .bind(tenant.as_str())
            .bind(memories)
            .execute(tx)
            .await?;
    }
    Ok(true)
}

const BATCH: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM memory.memory AS m WHERE m.tenant = $1 AND m.agent = $2 AND m.id = ANY($3)
    AND (m.expires_at IS NULL OR m.expires_at > $4) ORDER BY array_position($3, m.id)"
);

/// Memories that the agent stored, in the order of the ids.
pub(crate) async fn batch(
    tx: &mut PgConnection,
    tenant: &Tenant,
    agent: &AgentName,
    ids: &[MemoryId],
    now: Timestamp,
) -> Result<Vec<Row>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    sqlx::query_as(BATCH)
        .bind(tenant.as_str())
        .bind(agent.as_str())
        .bind(ids)
        .bind(now.to_chrono())
        .fetch_all(tx)
        .await
}

// An id that leads to a memory reaches it as its own does.
const OTHERS: &str = "SELECT EXISTS (SELECT FROM memory.memory AS m
    WHERE m.tenant = $1 AND (m.agent <> $3 OR m.owner <> $4) AND (m.id = ANY($2)
        OR m.id IN (SELECT a.memory FROM memory.alias AS a WHERE a.tenant = $1 AND a.id = ANY($2))))";

/// Whether any of them is another agent's or another owner's. What is not there is nobody's.
pub(crate) async fn others(
    tx: &mut PgConnection,
    tenant: &Tenant,
    (agent, owner): (&AgentName, &str),
    ids: &[MemoryId],
) -> Result<bool, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    sqlx::query_scalar(OTHERS)
        .bind(tenant.as_str())
        .bind(ids)
        .bind(agent.as_str())
        .bind(owner)
        .fetch_one(tx)
        .await
}
