//! What agents use, by tenant and agent, for a bounded number of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_runtime::metrics::{BoundCounter, Counter};
use mesh_runtime::{MetricName, Metrics};
use mesh_types::{AgentName, Tenant};

use super::tally::Used;

/// Agents with figures of their own, the first that were heard of; the others share one.
pub(super) const NAMED_MAX: usize = 200;
/// Stands for all others, as tenant and as agent.
pub(super) const OTHER: &str = "other";

const NANOS_PER_MICRO: u64 = 1_000;

pub(super) struct Agents {
    calls: Counter,
    tokens: Counter,
    cost: Counter,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    agents: HashMap<Tenant, HashMap<AgentName, Arc<Agent>>>,
    count: usize,
    others: Option<Arc<Agent>>,
}

struct Agent {
    calls: BoundCounter,
    input: BoundCounter,
    output: BoundCounter,
    cost: BoundCounter,
    /// Billionths of a US dollar so far: a cheap call costs less than a millionth.
    nanos: AtomicU64,
}

impl Agents {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            calls: metrics.counter(MetricName::AgentModelCalls),
            tokens: metrics.counter(MetricName::AgentTokens),
            cost: metrics.counter(MetricName::AgentCost),
            known: Mutex::default(),
        }
    }

    pub(super) fn add(&self, tenant: &Tenant, agent: &AgentName, used: &Used) {
        let figures = self.of(tenant, agent);
        figures.calls.add(used.calls);
        figures.input.add(used.input_tokens);
        figures.output.add(used.output_tokens);
        let before = figures.nanos.fetch_add(used.cost_nanos, Ordering::Relaxed);
        let after = before.saturating_add(used.cost_nanos);
        figures.cost.add(after / NANOS_PER_MICRO - before / NANOS_PER_MICRO);
    }

    fn of(&self, tenant: &Tenant, agent: &AgentName) -> Arc<Agent> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(figures) = known.agents.get(tenant).and_then(|agents| agents.get(agent)) {
            return Arc::clone(figures);
        }
        if known.count >= NAMED_MAX {
            let others = known.others.get_or_insert_with(|| self.make(OTHER, OTHER));
            return Arc::clone(others);
        }
        known.count += 1;
        let figures = self.make(tenant.as_str(), agent.as_str());
        let agents = known.agents.entry(tenant.clone()).or_default();
        agents.insert(agent.clone(), Arc::clone(&figures));
        figures
    }

    fn make(&self, tenant: &str, agent: &str) -> Arc<Agent> {
        let of = [("tenant", tenant), ("agent", agent)];
        let directed = |direction| {
            let labels = [of[0], of[1], ("direction", direction)];
            self.tokens.bound(&labels)
        };
        Arc::new(Agent {
            calls: self.calls.bound(&of),
            input: directed("input"),
            output: directed("output"),
            cost: self.cost.bound(&of),
            nanos: AtomicU64::new(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_past_the_bound_share_one_and_parts_of_a_millionth_add_up() {
        let metrics = Metrics::default();
        let agents = Agents::new(&metrics);
        let tenant = Tenant::default();
        let used = Used {
            calls: 1,
            input_tokens: 3,
            output_tokens: 2,
            cost_nanos: 400,
        };
        for number in 0..NAMED_MAX + 5 {
            agents.add(&tenant, &format!("a{number}").parse().unwrap(), &used);
        }
        for _ in 0..2 {
            agents.add(&tenant, &"a0".parse().unwrap(), &used);
        }
        let text = metrics.render().unwrap();
        let has = |line: &str| assert!(text.contains(line), "{line}\n{text}");
        has(r#"mesh_agent_model_calls_total{agent="a0",tenant="default"} 3"#);
        has(r#"mesh_agent_cost_total{agent="a0",tenant="default"} 1"#);
        has(r#"mesh_agent_tokens_total{agent="a7",direction="input",tenant="default"} 3"#);
        has(r#"mesh_agent_model_calls_total{agent="other",tenant="other"} 5"#);
        has(r#"mesh_agent_cost_total{agent="other",tenant="other"} 2"#);
        assert_eq!(text.matches("mesh_agent_model_calls_total{").count(), NAMED_MAX + 1);
    }
}
