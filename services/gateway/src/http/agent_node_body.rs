//! Bodies of the kept node routes, leniently read: unknown fields are ignored, `null` counts as left out, and what
//! belongs together may stand at the top or in an object of its own (`configuration`, `health`).

use mesh_api::fleet::{NodeConfiguration, NodeEntry};
use mesh_types::fleet::{HealthReason, HealthSnapshot, Heartbeat, Labels, NodeMode, ReplicaReport, Sharing};
use mesh_types::{Code, NodeId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::problem::Failure;

/// Seconds between heartbeats, where a node does not say.
const INTERVAL_SECONDS: f64 = 20.0;
/// Bytes of a text that a node says of its machine.
const TEXT_BYTES_MAX: usize = 256;
const SHARING_FIELDS: [&str; 4] = ["tenants", "users", "agents", "invocations_max"];

/// A body whose parts may stand in objects of their own; what stands at the top counts more. One body is read as
/// several types: a heartbeat and a registration may carry the configuration along.
pub(super) fn read<T: DeserializeOwned>(body: &Value) -> Result<T, Failure> {
    let Value::Object(mut fields) = body.clone() else {
        return Err(Failure::new(Code::InvalidRequest, "the body must be a JSON object"));
    };
    for part in ["configuration", "health"] {
        let Some(Value::Object(inner)) = fields.remove(part) else {
            continue;
        };
        for (name, value) in inner {
            fields.entry(name).or_insert(value);
        }
    }
    if let Some(Value::Object(sharing)) = fields.get_mut("sharing") {
        sharing.retain(|name, value| SHARING_FIELDS.contains(&name.as_str()) && !value.is_null());
    }
    Ok(mesh_types::json::from_value(Value::Object(fields))?)
}

/// `node_id`, or `agent_node_id` as the replaced API has it.
fn one_of(node_id: Option<&NodeId>, agent_node_id: Option<&NodeId>) -> Result<Option<NodeId>, Failure> {
    match (node_id, agent_node_id) {
        (Some(one), Some(other)) if one != other => Err(Failure::invalid(
            "agent_node_id",
            format!("node_id names `{one}`, agent_node_id `{other}`"),
        )),
        (one, other) => Ok(one.or(other).cloned()),
    }
}

macro_rules! names_its_node {
    ($($body:ty),*) => {$(
        impl $body {
            pub(super) fn node_id(&self) -> Result<Option<NodeId>, Failure> {
                let id = one_of(self.node_id.as_ref(), self.agent_node_id.as_ref())?;
                Ok(id.or_else(|| self.node_uid.clone()))
            }
        }
    )*};
}
names_its_node!(RegisterBody, HeartbeatBody, HealthBody, ConfigurationBody);

#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct RegisterBody {
    /// Left out: the mesh mints one.
    node_id: Option<NodeId>,
    agent_node_id: Option<NodeId>,
    node_uid: Option<NodeId>,
    pub(super) name: Option<String>,
    pub(super) mode: Option<NodeMode>,
    pub(super) labels: Option<Labels>,
    pub(super) capabilities: Option<Capabilities>,
    /// Invocations at the same time.
    pub(super) slots: Option<u32>,
}

/// Names, or an object of which those count that are `true`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Capabilities {
    Names(Vec<String>),
    Flags(std::collections::BTreeMap<String, Value>),
}

impl Capabilities {
    pub(super) fn names(self) -> Vec<String> {
        match self {
            Self::Names(names) => names,
            Self::Flags(flags) => flags
                .into_iter()
                .filter(|(_, value)| *value == Value::Bool(true))
                .map(|(name, _)| name)
                .collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub(super) struct ConfigurationBody {
    node_id: Option<NodeId>,
    agent_node_id: Option<NodeId>,
    node_uid: Option<NodeId>,
    mode: Option<NodeMode>,
    /// `null` takes it back.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    billable_account_uid: Option<Option<String>>,
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    billable_account_type: Option<Option<String>>,
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    billable_account_handle: Option<Option<String>>,
    sharing: Option<Sharing>,
    pub(super) labels: Option<Labels>,
}

/// Tells `null` from what is left out.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ConfigurationBody {
    /// Without the mode, which a report orders among others.
    pub(super) fn without_mode(self) -> Self {
        Self { mode: None, ..self }
    }

    /// `known` with what is given here.
    pub(super) fn over(self, known: &NodeConfiguration) -> NodeConfiguration {
        let known = known.clone();
        NodeConfiguration {
            mode: self.mode.unwrap_or(known.mode),
            node_uid: self.node_uid.or(known.node_uid),
            billable_account_uid: self.billable_account_uid.unwrap_or(known.billable_account_uid),
            billable_account_type: self.billable_account_type.unwrap_or(known.billable_account_type),
            billable_account_handle: self.billable_account_handle.unwrap_or(known.billable_account_handle),
            sharing: self.sharing.unwrap_or(known.sharing),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct HeartbeatBody {
    node_id: Option<NodeId>,
    agent_node_id: Option<NodeId>,
    node_uid: Option<NodeId>,
    /// Grows with each start of the node; left out: 0.
    incarnation: Option<u64>,
    /// Grows with each report; left out: by the time of its arrival.
    seq: Option<u64>,
    sent_at: Option<Timestamp>,
    /// Until the next one is due; left out: 20.
    interval_seconds: Option<f64>,
    mode: Option<NodeMode>,
    slots: Option<u32>,
    running: Option<u32>,
    tokens_per_second: Option<f64>,
    assignment: Option<u64>,
    replicas: Option<Vec<ReplicaReport>>,
    draining: Option<bool>,
}

impl HeartbeatBody {
    pub(super) fn complete(self, entry: &NodeEntry, now: Timestamp) -> Heartbeat {
        Heartbeat {
            node_id: entry.node_id.clone(),
            incarnation: self.incarnation.unwrap_or(0),
            seq: self.seq.unwrap_or_else(|| arrival(now)),
            sent_at: self.sent_at.unwrap_or(now),
            interval_seconds: self.interval_seconds.unwrap_or(INTERVAL_SECONDS),
            mode: self.mode.unwrap_or(entry.configuration.mode),
            slots: self.slots.unwrap_or(entry.slots),
            running: self.running.unwrap_or(0),
            tokens_per_second: self.tokens_per_second.unwrap_or(0.0),
            assignment: self.assignment.unwrap_or(0),
            replicas: self.replicas.unwrap_or_default(),
            draining: self.draining.unwrap_or(false),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct HealthBody {
    node_id: Option<NodeId>,
    agent_node_id: Option<NodeId>,
    node_uid: Option<NodeId>,
    incarnation: Option<u64>,
    seq: Option<u64>,
    mode: Option<NodeMode>,
    hostname: Option<String>,
    platform: Option<String>,
    platform_release: Option<String>,
    python_version: Option<String>,
    agent_runtimes_version: Option<String>,
    cpu_count: Option<u32>,
    cpu_percent: Option<f64>,
    /// Megabytes; fractions are cut.
    memory_total_mb: Option<f64>,
    memory_available_mb: Option<f64>,
    /// Over 1, 5 and 15 minutes.
    load_average: Option<Vec<f64>>,
    uptime_seconds: Option<f64>,
    reported_at: Option<Timestamp>,
    /// Left out: `periodic`.
    reason: Option<HealthReason>,
}

impl HealthBody {
    /// Of the mode in it, as of a heartbeat's.
    pub(super) fn order(&self, now: Timestamp) -> (u64, u64) {
        (self.incarnation.unwrap_or(0), self.seq.unwrap_or_else(|| arrival(now)))
    }

    /// What a machine cannot tell (a system without load averages, say) is empty or 0.
    pub(super) fn complete(self, entry: &NodeEntry, now: Timestamp) -> Result<HealthSnapshot, Failure> {
        let load = self.load_average.unwrap_or_default();
        let health = HealthSnapshot {
            mode: self.mode.unwrap_or(entry.configuration.mode),
            hostname: self.hostname.unwrap_or_else(|| entry.name.clone()),
            platform: self.platform.unwrap_or_default(),
            platform_release: self.platform_release.unwrap_or_default(),
            python_version: self.python_version,
            agent_runtimes_version: self.agent_runtimes_version.unwrap_or_default(),
            cpu_count: self.cpu_count.unwrap_or(0),
            cpu_percent: self.cpu_percent.unwrap_or(0.0),
            memory_total_mb: whole("memory_total_mb", self.memory_total_mb)?,
            memory_available_mb: whole("memory_available_mb", self.memory_available_mb)?,
            load_average: [0, 1, 2].map(|index| load.get(index).copied().unwrap_or(0.0)),
            uptime_seconds: whole("uptime_seconds", self.uptime_seconds)?,
            reported_at: self.reported_at.unwrap_or(now),
            reason: self.reason.unwrap_or(HealthReason::Periodic),
        };
        let texts = [
            ("hostname", &health.hostname),
            ("platform", &health.platform),
            ("platform_release", &health.platform_release),
            ("agent_runtimes_version", &health.agent_runtimes_version),
        ];
        let python = health.python_version.as_ref().map(|text| ("python_version", text));
        let is_wrong = |text: &str| text.len() > TEXT_BYTES_MAX || text.contains('\0');
        let wrong = texts.into_iter().chain(python).find(|(_, text)| is_wrong(text));
        if let Some((field, _)) = wrong {
            return Err(Failure::invalid(
                field,
                format!("{field} must have at most 256 bytes, without U+0000"),
            ));
        }
        Ok(health)
    }
}

/// A number that grows from request to request, where the node counts none itself.
fn arrival(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros()).unwrap_or(0)
}

fn whole(field: &str, number: Option<f64>) -> Result<u64, Failure> {
    let number = number.unwrap_or(0.0);
    // Up to here a float holds every whole number.
    if !(0.0..=9_007_199_254_740_992.0).contains(&number) {
        return Err(Failure::invalid(field, format!("{field} must be 0 or more")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, and the fraction is to go"
    )]
    Ok(number as u64)
}
