//! How long plans take: a fleet of any size, made up, planned from nothing, again without a change, and after losses.
//! Its nodes do at once what they are told; the tests of the plan use them too.

use std::time::Duration;

use mesh_api::execution::Demand;
use mesh_api::fleet::{NodeConfiguration, NodeEntry, PlacedAgent};
use mesh_api::heartbeat::ObservedNode;
use mesh_types::agent::Placement;
use mesh_types::fleet::{Heartbeat, NodeMode, ReplicaReport, ReplicaState, Sharing};
use mesh_types::{Clock, Id, ReplicaId, Tenant, Timestamp};

use super::{Kept, NodeSeen, Observation, Plan, Settings, World, plan};

const START: Timestamp = Timestamp::from_millis(1_795_258_800_000);
const OWNERS: [&str; 5] = ["ann", "bob", "clara", "dan", "eve"];
const REGIONS: [&str; 4] = ["eu", "us", "asia", "africa"];
const REPLICAS: u32 = 2;

/// Times and sizes of one measurement.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlanTimes {
    pub nodes: u32,
    pub agents: u32,
    pub replicas: usize,
    /// Placing everything on an empty fleet.
    pub first_ms: f64,
    pub first_actions: usize,
    /// Nothing has changed.
    pub unchanged_ms: f64,
    pub unchanged_actions: usize,
    /// One node in a hundred has died.
    pub failover_ms: f64,
    pub failover_actions: usize,
}

/// Plans for a made-up fleet of so many nodes and agents of two replicas each.
pub fn plan_times(nodes: u32, agents: u32, clock: &dyn Clock) -> PlanTimes {
    let mut fleet = Fleet::default();
    let slots = (agents.saturating_mul(REPLICAS) / nodes.max(1))
        .saturating_mul(2)
        .max(4);
    for index in 0..nodes {
        let owner = OWNERS[index as usize % OWNERS.len()];
        let mode = if index % 2 == 0 {
            NodeMode::Shared
        } else {
            NodeMode::Private
        };
        let entry = node(&format!("node-{index:06}"), owner, mode, slots);
        let entry = NodeEntry {
            labels: [("region".to_owned(), REGIONS[index as usize % REGIONS.len()].to_owned())].into(),
            ..entry
        };
        fleet.add_node(entry);
    }
    for index in 0..agents {
        let owner = OWNERS[index as usize % OWNERS.len()];
        let mut agent = agent(&format!("agent-{index:06}"), Some(owner), REPLICAS);
        if index % 4 == 0 {
            let region = REGIONS[(index as usize / 4) % REGIONS.len()].to_owned();
            agent.placement.node_selector.insert("region".to_owned(), region);
        }
        fleet.seen.agents.push(agent);
    }
    let (first, first_ms) = timed(clock, &mut fleet);
    fleet.apply(&first);
    fleet.settle(64);
    let (unchanged, unchanged_ms) = timed(clock, &mut fleet);
    for index in (0..fleet.seen.nodes.len()).step_by(100) {
        fleet.lose(index);
    }
    let (failover, failover_ms) = timed(clock, &mut fleet);
    PlanTimes {
        nodes,
        agents,
        replicas: fleet.kept.replicas.len(),
        first_ms,
        first_actions: first.acting(),
        unchanged_ms,
        unchanged_actions: unchanged.acting(),
        failover_ms,
        failover_actions: failover.acting(),
    }
}

fn timed(clock: &dyn Clock, fleet: &mut Fleet) -> (Plan, f64) {
    let started = clock.monotonic();
    let plan = fleet.plan();
    let took = clock.monotonic().saturating_sub(started);
    (plan, took.as_secs_f64() * 1e3)
}

/// A fleet whose nodes obey at once.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) seen: Observation,
    pub(super) kept: Kept,
    pub(super) now: Timestamp,
    pub(super) settings: Settings,
    next_id: u128,
}

impl Default for Fleet {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            seen: Observation {
                demand: Demand {
                    agents: Vec::new(),
                    complete: true,
                },
                ..Observation::default()
            },
            kept: Kept::default(),
            now: START,
            settings: Settings {
                deaf_after: seconds(30),
                stable: seconds(10),
                stable_max: seconds(300),
                flap_window: seconds(600),
                retry: seconds(5),
                version_retry: seconds(300),
            },
            next_id: 0,
        }
    }
}

impl Fleet {
    pub(super) fn add_node(&mut self, entry: NodeEntry) {
        let heartbeat = Heartbeat {
            node_id: entry.node_id.clone(),
            incarnation: 1,
            seq: 1,
            sent_at: self.now,
            interval_seconds: 1.0,
            mode: entry.configuration.mode,
            slots: entry.slots,
            running: 0,
            tokens_per_second: 0.0,
            assignment: 0,
            replicas: Vec::new(),
            draining: false,
        };
        let observed = ObservedNode {
            node_id: entry.node_id.clone(),
            alive: true,
            since: self.now,
            last_seen_at: self.now,
            last_health_at: None,
            heartbeat: Some(heartbeat),
            health: None,
        };
        self.seen.nodes.push(NodeSeen {
            entry,
            observed: Some(observed),
        });
    }

    pub(super) fn plan(&mut self) -> Plan {
        let world = World {
            now: self.now,
            epoch: 1,
            since: START,
            seen: &self.seen,
            kept: &self.kept,
            settings: &self.settings,
        };
        let next_id = &mut self.next_id;
        plan(&world, &mut || {
            *next_id += 1;
            ReplicaId::from_u128(*next_id)
        })
    }

    pub(super) fn apply(&mut self, plan: &Plan) {
        self.kept.apply(&plan.changes);
    }

    /// Lets every node that is there run what it is told, ready at once, and let go of what stops.
    pub(super) fn follow(&mut self) {
        self.follow_with(|_| ReplicaState::Ready);
    }

    /// As [`Self::follow`], with the state that each replica comes to.
    pub(super) fn follow_with(&mut self, state: impl Fn(&ReplicaReport) -> ReplicaState) {
        let assignments = self.kept.assignments();
        for node in &mut self.seen.nodes {
            let observed = node.observed.as_mut().filter(|observed| observed.alive);
            let Some(beat) = observed.and_then(|observed| observed.heartbeat.as_mut()) else {
                continue;
            };
            let Some(assignment) = assignments.get(&node.entry.node_id) else {
                continue;
            };
            beat.assignment = assignment.generation;
            let runs = assignment.replicas.iter().filter(|replica| !replica.stopping);
            beat.replicas = runs
                .map(|replica| {
                    let mut report = ReplicaReport {
                        replica: replica.replica,
                        tenant: replica.tenant.clone(),
                        agent: replica.agent.clone(),
                        version: replica.version,
                        state: ReplicaState::Starting,
                        detail: String::new(),
                        running: 0,
                    };
                    report.state = state(&report);
                    report
                })
                .collect();
        }
    }

    /// Plans, applies and follows until there is nothing more to do; how many plans that took.
    pub(super) fn settle(&mut self, most: u32) -> Option<u32> {
        for turn in 0..most {
            self.follow();
            let plan = self.plan();
            self.apply(&plan);
            if plan.acting() == 0 && plan.changes.is_empty() {
                return Some(turn);
            }
        }
        None
    }

    pub(super) fn lose(&mut self, index: usize) {
        let now = self.now;
        if let Some(observed) = &mut self.seen.nodes[index].observed {
            (observed.alive, observed.since, observed.last_seen_at) = (false, now, now);
        }
    }

    /// It is there again, with nothing in hand.
    #[cfg(test)]
    pub(super) fn bring_back(&mut self, index: usize) {
        let now = self.now;
        if let Some(observed) = &mut self.seen.nodes[index].observed {
            (observed.alive, observed.since) = (true, now);
            if let Some(beat) = &mut observed.heartbeat {
                beat.incarnation += 1;
                (beat.assignment, beat.replicas) = (0, Vec::new());
            }
        }
    }
}

pub(super) fn node(name: &str, owner: &str, mode: NodeMode, slots: u32) -> NodeEntry {
    NodeEntry {
        node_id: name.parse().expect("names of made-up nodes are tokens"),
        tenant: Tenant::default(),
        owner: owner.to_owned(),
        name: name.to_owned(),
        configuration: NodeConfiguration {
            mode,
            sharing: Sharing::default(),
            ..NodeConfiguration::default()
        },
        labels: mesh_types::fleet::Labels::new(),
        capabilities: vec!["llm".to_owned()],
        slots,
        drained: false,
        registered_at: START,
        updated_at: START,
    }
}

pub(super) fn agent(name: &str, owner: Option<&str>, replicas: u32) -> PlacedAgent {
    PlacedAgent {
        tenant: Tenant::default(),
        agent: name.parse().expect("names of made-up agents are tokens"),
        owner: owner.map(str::to_owned),
        version: 1,
        hash: "11".repeat(32),
        published_at: START,
        placement: Placement {
            replicas,
            ..Placement::default()
        },
        concurrency: 16,
        requires: vec!["llm".to_owned()],
    }
}
