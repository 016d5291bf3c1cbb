//! Table `registry.node`.

use mesh_api::fleet::{NodeConfiguration, NodeEntry};
use mesh_types::fleet::NodeMode;
use mesh_types::fleet_policy::{DEVELOPER, Viewer};
use mesh_types::{NodeId, Tenant};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use super::unreadable;
use crate::nodes::{Known, Report};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant, owner, name, mode, billable_account_uid, billable_account_type, ",
            "billable_account_handle, sharing, labels, capabilities, slots, drained, mode_incarnation, mode_seq, ",
            "registered_at, updated_at FROM registry.node ",
            $rest
        )
    };
}

/// Inserts it if its id is free in the whole mesh; whether it was.
pub(crate) async fn insert(tx: &mut PgConnection, node: &Known) -> Result<bool, sqlx::Error> {
    write(
        tx,
        "INSERT INTO registry.node (id, tenant, owner, name, mode, billable_account_uid, billable_account_type, \
         billable_account_handle, sharing, sharing_tenants, sharing_users, labels, capabilities, slots, drained, \
         mode_incarnation, mode_seq, updated_at, registered_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
         ON CONFLICT ON CONSTRAINT node_key DO NOTHING",
        node,
    )
    .await
}

/// Replaces a locked row; id, tenant, owner and the time of its registration stay.
pub(crate) async fn replace(tx: &mut PgConnection, node: &Known) -> Result<(), sqlx::Error> {
    write(
        tx,
        "UPDATE registry.node SET name = $4, mode = $5, billable_account_uid = $6, billable_account_type = $7, \
         billable_account_handle = $8, sharing = $9, sharing_tenants = $10, sharing_users = $11, labels = $12, \
         capabilities = $13, slots = $14, drained = $15, mode_incarnation = $16, mode_seq = $17, updated_at = $18 \
         WHERE id = $1 AND tenant = $2 AND owner = $3 AND registered_at = $19",
        node,
    )
    .await
    .map(|_| ())
}

async fn write(tx: &mut PgConnection, sql: &'static str, node: &Known) -> Result<bool, sqlx::Error> {
    let Known { entry, reported } = node;
    let NodeConfiguration { mode, sharing, .. } = &entry.configuration;
    let tenants: Vec<&str> = sharing.tenants.iter().map(Tenant::as_str).collect();
    let done = sqlx::query(sql)
        .bind(entry.node_id.as_str())
        .bind(entry.tenant.as_str())
        .bind(&entry.owner)
        .bind(&entry.name)
        .bind(mode_text(*mode))
        .bind(&entry.configuration.billable_account_uid)
        .bind(&entry.configuration.billable_account_type)
        .bind(&entry.configuration.billable_account_handle)
        .bind(serde_json::to_string(sharing).map_err(unreadable)?)
        .bind(tenants)
        .bind(&sharing.users)
        .bind(serde_json::to_string(&entry.labels).map_err(unreadable)?)
        .bind(&entry.capabilities)
        .bind(i32::try_from(entry.slots).map_err(unreadable)?)
        .bind(entry.drained)
        .bind(i64::try_from(reported.incarnation).map_err(unreadable)?)
        .bind(i64::try_from(reported.seq).map_err(unreadable)?)
        .bind(entry.updated_at.to_chrono())
        .bind(entry.registered_at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// A node of this tenant, which nobody else changes until this transaction ends.
pub(crate) async fn get_locked(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: &NodeId,
) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(select!("WHERE id = $1 AND tenant = $2 FOR UPDATE"))
        .bind(id.as_str())
        .bind(tenant.as_str())
        .fetch_optional(tx)
        .await?;
    row.map(Row::known).transpose()
}

/// Of this tenant or shared with it; whether the caller may see it is the policy's word.
pub(crate) async fn get(tx: &mut PgConnection, id: &NodeId) -> Result<Option<Known>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(select!("WHERE id = $1"))
        .bind(id.as_str())
        .fetch_optional(tx)
        .await?;
    row.map(Row::known).transpose()
}

/// Whose node this is, in a transaction of every tenant.
pub(crate) async fn tenant_of(tx: &mut PgConnection, id: &NodeId) -> Result<Option<Tenant>, sqlx::Error> {
    let tenant: Option<String> = sqlx::query_scalar("SELECT tenant FROM registry.node WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(tx)
        .await?;
    tenant.map(|tenant| tenant.parse().map_err(unreadable)).transpose()
}

/// Those that `viewer` sees, by id, after `after`: `fleet_policy::sees` as a condition, so that pages are full.
pub(crate) async fn list_seen(
    tx: &mut PgConnection,
    viewer: Viewer<'_>,
    after: Option<&NodeId>,
    limit: i64,
) -> Result<Vec<Known>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(select!(
        "WHERE id > $1 AND ((tenant = $2 AND ($3::text IS NULL OR owner = $3)) \
         OR (mode = 'shared' AND CASE WHEN sharing_tenants = '{}' THEN tenant = $2 ELSE $2 = ANY (sharing_tenants) END \
             AND (sharing_users = '{}' OR coalesce($3, $4) = ANY (sharing_users)))) ORDER BY id LIMIT $5"
    ))
    .bind(after.map_or("", NodeId::as_str))
    .bind(viewer.tenant.as_str())
    .bind(viewer.owner)
    .bind(DEVELOPER)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::known).collect()
}

/// Of every tenant, by id, those after `after`; in a transaction of every tenant.
pub(crate) async fn list_all(
    tx: &mut PgConnection,
    after: Option<&NodeId>,
    limit: i64,
) -> Result<Vec<Known>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
        .bind(after.map_or("", NodeId::as_str))
        .bind(limit)
        .fetch_all(tx)
        .await?;
    rows.into_iter().map(Row::known).collect()
}

/// Deletes a locked row.
pub(crate) async fn delete(tx: &mut PgConnection, tenant: &Tenant, id: &NodeId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM registry.node WHERE id = $1 AND tenant = $2")
        .bind(id.as_str())
        .bind(tenant.as_str())
        .execute(tx)
        .await
        .map(|_| ())
}

const fn mode_text(mode: NodeMode) -> &'static str {
    match mode {
        NodeMode::Private => "private",
        NodeMode::Shared => "shared",
        NodeMode::Sleep => "sleep",
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    tenant: String,
    owner: String,
    name: String,
    mode: String,
    billable_account_uid: Option<String>,
    billable_account_type: Option<String>,
    billable_account_handle: Option<String>,
    sharing: String,
    labels: String,
    capabilities: Vec<String>,
    slots: i32,
    drained: bool,
    mode_incarnation: i64,
    mode_seq: i64,
    registered_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn known(self) -> Result<Known, sqlx::Error> {
        let node_id: NodeId = self.id.parse().map_err(unreadable)?;
        // As the CHECK of the table has it.
        let mode = match self.mode.as_str() {
            "shared" => NodeMode::Shared,
            "sleep" => NodeMode::Sleep,
            _ => NodeMode::Private,
        };
        let configuration = NodeConfiguration {
            mode,
            node_uid: Some(node_id.clone()),
            billable_account_uid: self.billable_account_uid,
            billable_account_type: self.billable_account_type,
            billable_account_handle: self.billable_account_handle,
            sharing: serde_json::from_str(&self.sharing).map_err(unreadable)?,
        };
        let entry = NodeEntry {
            node_id,
            tenant: self.tenant.parse().map_err(unreadable)?,
            owner: self.owner,
            name: self.name,
            configuration,
            labels: serde_json::from_str(&self.labels).map_err(unreadable)?,
            capabilities: self.capabilities,
            slots: u32::try_from(self.slots).map_err(unreadable)?,
            drained: self.drained,
            registered_at: self.registered_at.into(),
            updated_at: self.updated_at.into(),
        };
        Ok(Known {
            entry,
            reported: Report {
                incarnation: u64::try_from(self.mode_incarnation).map_err(unreadable)?,
                seq: u64::try_from(self.mode_seq).map_err(unreadable)?,
            },
        })
    }
}
