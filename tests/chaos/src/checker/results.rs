//! Rules over what steps leave in the mesh itself: invocations that agents create, and what they remember.

use std::collections::BTreeSet;

use mesh_api::journal::StepKind;

use super::effects::dones;
use super::{Violation, violation};
use crate::evidence::{Evidence, parse_key};
use crate::load::plan::TASKS;

/// The builtin tool by which an agent creates an invocation that it does not wait for.
pub(crate) const TASK_TOOL: &str = "create_task";

/// A step that says it created a task created one. That no key has two is the rule for keys.
pub(super) fn task_created_once(evidence: &Evidence, found: &mut Vec<Violation>) {
    let keys: BTreeSet<&str> = evidence
        .journal
        .invocations
        .values()
        .filter_map(|invocation| invocation.key.as_deref())
        .collect();
    for (id, _, fact) in dones(evidence) {
        let key = format!("{id}/{}", fact.step);
        let is_task = fact.kind == StepKind::Tool && fact.name == TASK_TOOL && fact.error.is_none();
        if is_task && !keys.contains(key.as_str()) {
            found.push(violation(&key, "created a task, and there is none"));
        }
    }
}

/// Whether the key is that of a step of an agent that creates tasks. The step's record may be missing: the agent may have
/// been cancelled after the task was created.
pub(super) fn is_task(evidence: &Evidence, key: &str) -> bool {
    let creator = parse_key(key).and_then(|(id, _)| evidence.journal.invocations.get(&id));
    creator.is_some_and(|creator| creator.agent == TASKS)
}

/// A step that says it stored a memory stored one, however often it ran.
pub(super) fn remembered_once(evidence: &Evidence, found: &mut Vec<Violation>) {
    let memories = &evidence.journal.memories;
    // An agent stores its answer in one step.
    for (id, count) in memories.iter().filter(|(_, count)| **count > 1) {
        found.push(violation(id, format!("{count} memories of one answer")));
    }
    for (id, _, fact) in dones(evidence) {
        let is_store = fact.kind == StepKind::MemoryStore && fact.error.is_none();
        if is_store && !memories.contains_key(&id) {
            found.push(violation(
                format!("{id}/{}", fact.step),
                "is recorded as stored, and no memory is of it",
            ));
        }
    }
}
