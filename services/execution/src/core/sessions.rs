//! Sessions: one invocation of a session runs at a time, in order of acceptance.

use std::collections::{HashMap, VecDeque};

use mesh_types::{AgentName, InvocationId, Tenant};

use super::open::Meta;

type Key = (Tenant, AgentName, String);

/// Open invocations of each session, oldest first; the first may run.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    queues: HashMap<Key, VecDeque<InvocationId>>,
}

fn key(meta: &Meta) -> Option<Key> {
    let session = meta.session.clone()?;
    Some((meta.tenant.clone(), meta.agent.clone(), session))
}

impl Sessions {
    pub(crate) fn push(&mut self, meta: &Meta) {
        if let Some(key) = key(meta) {
            self.queues.entry(key).or_default().push_back(meta.id);
        }
    }

    /// Who is first now, if that changed.
    pub(crate) fn remove(&mut self, meta: &Meta) -> Option<InvocationId> {
        let key = key(meta)?;
        let queue = self.queues.get_mut(&key)?;
        let was_first = queue.front() == Some(&meta.id);
        queue.retain(|id| *id != meta.id);
        let next = queue.front().copied();
        if next.is_none() {
            self.queues.remove(&key);
        }
        next.filter(|_| was_first)
    }

    /// Whether nothing of its session stands before it.
    pub(crate) fn is_first(&self, meta: &Meta) -> bool {
        if mesh_runtime::planted::is_planted("session_before_commit") {
            return true;
        }
        let Some(key) = key(meta) else { return true };
        #[cfg(test)]
        if crate::sim::bugs::is_planted(crate::sim::bugs::Bug::SessionAdvanced) {
            return true;
        }
        self.queues
            .get(&key)
            .is_none_or(|queue| queue.front().is_none_or(|first| *first == meta.id))
    }

    /// All of its session, oldest first.
    pub(crate) fn of(&self, meta: &Meta) -> Vec<InvocationId> {
        key(meta)
            .and_then(|key| self.queues.get(&key))
            .map_or_else(Vec::new, |queue| queue.iter().copied().collect())
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}
