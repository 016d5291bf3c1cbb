//! What is paused besides single invocations: an agent, a tenant, everything. `*` stands for all.

use std::collections::HashSet;

use mesh_types::{AgentName, Tenant};

pub(crate) const ALL: &str = "*";

/// The rows of `pause`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pauses(HashSet<(String, String)>);

impl Pauses {
    pub(crate) fn new(rows: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(rows.into_iter().collect())
    }

    pub(crate) fn holds(&self, tenant: &Tenant, agent: &AgentName) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let names = |tenant: &str, agent: &str| self.0.contains(&(tenant.to_owned(), agent.to_owned()));
        names(ALL, ALL) || names(tenant.as_str(), ALL) || names(tenant.as_str(), agent.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_all() {
        let (t, a): (Tenant, AgentName) = ("t".parse().unwrap(), "a".parse().unwrap());
        let holds =
            |rows: &[(&str, &str)]| Pauses::new(rows.iter().map(|(t, a)| ((*t).into(), (*a).into()))).holds(&t, &a);
        assert!(!holds(&[]));
        assert!(holds(&[("*", "*")]) && holds(&[("t", "*")]) && holds(&[("t", "a")]));
        assert!(!holds(&[("u", "*"), ("t", "b"), ("u", "a")]));
    }
}
