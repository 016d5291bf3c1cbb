//! The row of `open` in the model of Postgres, as the fenced statement writes it.

use mesh_api::journal::{Record, Usage};
use std::sync::Arc;

use mesh_types::Timestamp;

use crate::core::open::usage_after;
use crate::core::{Holder, Meta, OpenRow, RunState, Waits};

/// The columns of `open`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenColumns {
    pub(super) state: &'static str,
    pub(super) epoch: u32,
    pub(super) holder: Option<Holder>,
    pub(super) waits_for: Option<Arc<Waits>>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) session_order: i64,
    pub(super) paused: bool,
    pub(super) cancelling: bool,
    pub(super) losses: u32,
    pub(super) started_at: Option<Timestamp>,
}

impl OpenColumns {
    /// As `store::read` parses it.
    pub(super) fn row(&self, journal: &[Record]) -> OpenRow {
        let state = match (self.state, &self.holder, &self.waits_for) {
            ("running", Some(holder), _) => RunState::Running(holder.clone()),
            ("waiting", _, Some(waits)) => RunState::Waiting(Arc::clone(waits)),
            _ => RunState::Queued,
        };
        OpenRow {
            state,
            epoch: self.epoch,
            seq: u32::try_from(journal.len()).unwrap_or(u32::MAX),
            started_at: self.started_at,
            paused: self.paused,
            cancelling: self.cancelling,
            losses: self.losses,
            session_order: self.session_order,
            usage: usage_after(Usage::default(), journal),
        }
    }
}

/// As `store::rows` gathers it.
pub(super) fn open_row(meta: &Meta, row: &OpenRow) -> OpenColumns {
    let (holder, waits) = match &row.state {
        RunState::Queued => (None, None),
        RunState::Running(holder) => (Some(holder.clone()), None),
        RunState::Waiting(waits) => (None, Some(Arc::clone(waits))),
    };
    OpenColumns {
        state: row.state.state().as_str(),
        epoch: row.epoch,
        holder,
        wake_at: waits.as_ref().map_or(meta.wake_at, |waits| waits.wake_at()),
        waits_for: waits,
        session_order: row.session_order,
        paused: row.paused,
        cancelling: row.cancelling,
        losses: row.losses,
        started_at: row.started_at,
    }
}
