//! Where an agent's replicas run, and how many: part of a declared agent. What is left out keeps today's artifact hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An agent with a placement runs on nodes only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// How many run; with `autoscaling` those that it starts with.
    #[schema(maximum = 10000)]
    pub replicas: u32,
    /// Labels that a node must have, each with this value; `region` is one of them.
    pub node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub spread: Spread,
    /// Absent: always `replicas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    #[serde(skip_serializing_if = "is_default")]
    pub rollout: Rollout,
}

/// What replicas of one agent stay apart by, as far as there is room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    #[default]
    Node,
    /// By the nodes' label `region` first, then by node.
    Region,
}

/// Replicas between two bounds, by what waits and what is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Autoscaling {
    /// 0: none runs while nothing waits.
    pub min: u32,
    #[schema(minimum = 1, maximum = 10000)]
    pub max: u32,
    /// Invocations that may wait for each replica before there is another one.
    #[schema(minimum = 1, maximum = 1000000)]
    pub queue_per_replica: u32,
    /// Tokens per second that one replica makes at most; absent: tokens do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second_per_replica: Option<f64>,
    /// How long there must be too many before one goes, in seconds.
    #[schema(maximum = 86400)]
    pub idle_seconds: u32,
}

/// How a new version takes the place of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// Replicas above the wanted number while it lasts.
    pub surge: u32,
    /// Replicas below the wanted number while it lasts.
    pub unavailable: u32,
    /// A replica that is not ready after so many seconds has failed, and the version with it.
    #[schema(minimum = 1, maximum = 3600)]
    pub health_seconds: u32,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            replicas: 1,
            node_selector: BTreeMap::new(),
            spread: Spread::default(),
            autoscaling: None,
            rollout: Rollout::default(),
        }
    }
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            min: 1,
            max: 10,
            queue_per_replica: 5,
            tokens_per_second_per_replica: None,
            idle_seconds: 300,
        }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            surge: 1,
            unavailable: 0,
            health_seconds: 30,
        }
    }
}

const REPLICAS_MAX: u32 = 10_000;
const SELECTOR_MAX: usize = 32;

/// Rules as in `agent_rules`: whether it holds, the field, what must hold.
pub(crate) fn rules(placement: &Placement) -> [(bool, &'static str, &'static str); 9] {
    let Placement {
        replicas,
        node_selector,
        autoscaling,
        rollout,
        ..
    } = placement;
    let scaling = autoscaling.unwrap_or_default();
    let selector_is_short = node_selector.len() <= SELECTOR_MAX
        && node_selector
            .iter()
            .all(|(key, value)| !key.is_empty() && key.len() <= 64 && value.len() <= 256);
    let rate_is_sane = scaling
        .tokens_per_second_per_replica
        .is_none_or(|rate| rate.is_finite() && rate > 0.0);
    [
        (
            *replicas <= REPLICAS_MAX,
            "spec.placement.replicas",
            "must lie between 0 and 10000",
        ),
        (
            selector_is_short,
            "spec.placement.node_selector",
            "at most 32 labels; keys have 1 to 64 bytes, values at most 256",
        ),
        (
            (1..=REPLICAS_MAX).contains(&scaling.max),
            "spec.placement.autoscaling.max",
            "must lie between 1 and 10000",
        ),
        (
            scaling.min <= scaling.max,
            "spec.placement.autoscaling.min",
            "must not exceed spec.placement.autoscaling.max",
        ),
        (
            (1..=1_000_000).contains(&scaling.queue_per_replica),
            "spec.placement.autoscaling.queue_per_replica",
            "must lie between 1 and 1000000",
        ),
        (
            rate_is_sane,
            "spec.placement.autoscaling.tokens_per_second_per_replica",
            "must be more than 0",
        ),
        (
            scaling.idle_seconds <= 86_400,
            "spec.placement.autoscaling.idle_seconds",
            "at most 86400",
        ),
        (
            (1..=REPLICAS_MAX).contains(&rollout.surge.saturating_add(rollout.unavailable)),
            "spec.placement.rollout",
            "`surge` and `unavailable` make at least 1 and at most 10000 together: a rollout must be able to begin",
        ),
        (
            (1..=3_600).contains(&rollout.health_seconds),
            "spec.placement.rollout.health_seconds",
            "must lie between 1 and 3600",
        ),
    ]
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
