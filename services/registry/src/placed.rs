//! What of a published version tells where it may run, kept beside it for the reconciler. Pure.

use mesh_types::agent::{AgentSpec, Placement, Runtime};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) placement: Placement,
    /// `limits.concurrency`.
    pub(crate) concurrency: u32,
    /// What its nodes must be capable of.
    pub(crate) requires: Vec<String>,
}

impl Placed {
    /// `None`: it declares no placement.
    pub(crate) fn of(spec: &AgentSpec) -> Option<Self> {
        let placement = spec.placement.clone()?;
        let requirement = match (spec.runtime, &spec.cli) {
            (Runtime::Cli, Some(cli)) => format!("cli:{}", cli.driver),
            (runtime, _) => runtime.as_str().to_owned(),
        };
        Some(Self {
            placement,
            concurrency: spec.limits.concurrency,
            requires: vec![requirement],
        })
    }

    /// As it is stored; empty where nothing is declared.
    pub(crate) fn text(placed: Option<&Self>) -> Result<String, serde_json::Error> {
        placed.map_or_else(|| Ok(String::new()), serde_json::to_string)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_runtime_asks_for_a_capability_and_survives_its_text() {
        let cases = [
            (json!({}), None),
            (json!({"placement": {}}), Some("llm")),
            (json!({"runtime": "noop", "placement": {"replicas": 3}}), Some("noop")),
            (
                json!({"runtime": "cli", "cli": {"driver": "codex"}, "placement": {}}),
                Some("cli:codex"),
            ),
        ];
        for (spec, requirement) in cases {
            let spec: AgentSpec = serde_json::from_value(spec).unwrap();
            let placed = Placed::of(&spec);
            let requires = placed.as_ref().map(|placed| placed.requires.join(","));
            assert_eq!(requires.as_deref(), requirement);
            let text = Placed::text(placed.as_ref()).unwrap();
            assert_eq!(text.is_empty(), placed.is_none());
            assert_eq!(serde_json::from_str(&text).ok(), placed);
        }
    }
}
