//! One Postgres role per service (and one for execution's readers), as `migrations/0001` creates them.

/// What a pool's connections become by `SET ROLE` right after they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Registry,
    /// The lanes: a batch mixes tenants, so this role is exempt from row level security, by policy.
    Execution,
    /// Reads of execution's tables, under row level security.
    ExecutionReader,
    Messaging,
    Memory,
    Identity,
    Heartbeat,
    Reconciler,
}

impl Role {
    pub const ALL: [Self; 8] = [
        Self::Registry,
        Self::Execution,
        Self::ExecutionReader,
        Self::Messaging,
        Self::Memory,
        Self::Identity,
        Self::Heartbeat,
        Self::Reconciler,
    ];

    /// The role's name in Postgres.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The schema whose tables this role may touch.
    pub const fn schema(self) -> &'static str {
        self.row().1
    }

    /// `application_name` of the connections, as `pg_stat_activity` shows it.
    pub const fn application_name(self) -> &'static str {
        self.row().2
    }

    pub(crate) const fn set_role(self) -> &'static str {
        self.row().3
    }

    const fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Registry => ("mesh_registry", "registry", "mesh-registry", "SET ROLE mesh_registry"),
            Self::Execution => (
                "mesh_execution",
                "execution",
                "mesh-execution",
                "SET ROLE mesh_execution",
            ),
            Self::ExecutionReader => (
                "mesh_execution_reader",
                "execution",
                "mesh-execution-reader",
                "SET ROLE mesh_execution_reader",
            ),
            Self::Messaging => (
                "mesh_messaging",
                "messaging",
                "mesh-messaging",
                "SET ROLE mesh_messaging",
            ),
            Self::Memory => ("mesh_memory", "memory", "mesh-memory", "SET ROLE mesh_memory"),
            Self::Identity => ("mesh_identity", "identity", "mesh-identity", "SET ROLE mesh_identity"),
            Self::Heartbeat => (
                "mesh_heartbeat",
                "heartbeat",
                "mesh-heartbeat",
                "SET ROLE mesh_heartbeat",
            ),
            Self::Reconciler => (
                "mesh_reconciler",
                "reconciler",
                "mesh-reconciler",
                "SET ROLE mesh_reconciler",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_finds_a_role() {
        for role in Role::ALL {
            assert_eq!(role.set_role(), format!("SET ROLE {}", role.name()));
            assert_eq!(role.application_name().replace('-', "_"), role.name());
            assert!(role.name().starts_with(&format!("mesh_{}", role.schema())));
        }
    }
}
