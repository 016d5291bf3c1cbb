//! Limits of what an agent remembers and reads, that its types cannot say.

use std::collections::HashSet;

use crate::agent::MemoryUse;
use crate::agent_rules::Rule;

/// Collections of documents that one agent reads.
const KNOWLEDGE_MAX: usize = 16;

pub(crate) fn rules(memory: &MemoryUse) -> [Rule; 3] {
    let bases: HashSet<_> = memory.knowledge.iter().collect();
    [
        (
            memory.knowledge.len() <= KNOWLEDGE_MAX,
            "spec.memory.knowledge",
            "at most 16 collections",
        ),
        (
            bases.len() == memory.knowledge.len(),
            "spec.memory.knowledge",
            "names a collection twice",
        ),
        (
            memory.consolidate_after == 0 || (2..=1_000).contains(&memory.consolidate_after),
            "spec.memory.consolidate_after",
            "must be 0 (never) or lie between 2 and 1000",
        ),
    ]
}
