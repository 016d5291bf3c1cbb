//! What committed records change for the worker of an open invocation: what it hears of, and whom it waits for.

use mesh_api::journal::{About, Fact, Record, StepKind};

use super::memory::Open;
use crate::core::append::child_of;
use crate::core::steer;

/// What the owner wrote and the worker does not know; and whether it ends a wait.
pub(super) fn take_news(open: &mut Open, records: &[Record]) {
    for record in records {
        let Fact::Signalled(signalled) = &record.fact else {
            if matches!(
                record.fact,
                Fact::Paused(_) | Fact::Resumed(_) | Fact::CancelRequested(_)
            ) {
                open.news.push(record.clone());
            }
            continue;
        };
        if let Some(keys) = &mut open.signal_keys {
            keys.push(signalled.key.clone());
        }
        if let About::Child { step, .. } = &signalled.about {
            open.children.retain(|child| child.step != *step);
        }
        open.is_woken |= steer::wakes(&open.row, &signalled.about);
        open.news.push(record.clone());
        if open.row.epoch == 0 && !open.journal.is_empty() {
            open.journal.push(record.clone());
        }
    }
}

/// Children begin with the step that calls them.
pub(super) fn follow_children(open: &mut Open, records: &[Record]) {
    for record in records {
        if let Fact::Begun(begun) = &record.fact
            && begun.kind == StepKind::Child
            && let Some(child) = child_of(&open.meta, begun.step, &begun.input)
            && !open.children.contains(&child)
        {
            open.children.push(child);
        }
    }
}
