//! Who acts: one process under one epoch. Beats show that it lives; who sees none for a while takes over. Safety never
//! rests on the beats: each commit checks the epoch.

use std::sync::Arc;
use std::time::Duration;

use crate::state::{Lead, State};
use crate::store::leader::{self as store, LeaderRow};

/// What is remembered of the row from look to look.
#[derive(Default)]
struct Watch {
    /// The row, and when it was first seen like that, by our own clock.
    seen: Option<(LeaderRow, Duration)>,
    last_look: Duration,
    last_beat: Duration,
}

/// Beats or watches until the shutdown.
pub(crate) async fn run(state: Arc<State>) {
    let mut watch = Watch::default();
    let mut said = false;
    while !state.context.shutdown.is_cancelled() {
        match turn(&state, &mut watch).await {
            Ok(()) => said = false,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "the leader's row cannot be read or written; trying again");
                }
                // What was not seen while the database was away is nobody's silence.
                watch.seen = None;
                step_down_if_unheard(&state, &watch);
            }
        }
        tokio::select! {
            () = state.context.shutdown.cancelled() => {}
            () = tokio::time::sleep(state.config.beat()) => {}
        }
    }
}

async fn turn(state: &State, watch: &mut Watch) -> Result<(), sqlx::Error> {
    let now = state.context.clock.monotonic();
    let gap = now.saturating_sub(watch.last_look);
    watch.last_look = now;
    if gap > state.config.leader_silence() / 2 {
        // We slept ourselves: that says nothing of others.
        watch.seen = None;
    }
    if let Some(lead) = state.leads() {
        if store::beat(&state.pool, lead.epoch).await? {
            watch.last_beat = now;
        } else {
            tracing::warn!(epoch = lead.epoch, "another process leads now");
            state.lead.send_replace(None);
        }
        return Ok(());
    }
    let row = store::get(&state.pool).await?;
    let is_free = row.holder.is_empty();
    let since = match &watch.seen {
        Some((seen, since)) if *seen == row => *since,
        _ => now,
    };
    let is_silent = now.saturating_sub(since) >= state.config.leader_silence();
    watch.seen = Some((row.clone(), since));
    if !is_free && !is_silent {
        return Ok(());
    }
    let wall = state.context.clock.now();
    if let Some(taken) = store::take(&state.pool, &row, &state.instance, wall).await? {
        tracing::info!(epoch = taken.epoch, "this process leads");
        (watch.seen, watch.last_beat) = (None, now);
        state.lead.send_replace(Some(Lead {
            epoch: taken.epoch,
            since: taken.since,
        }));
        state.ring();
    }
    Ok(())
}

/// Without a beat for as long as others wait, somebody else may lead by now.
fn step_down_if_unheard(state: &State, watch: &Watch) {
    let silence = state.context.clock.monotonic().saturating_sub(watch.last_beat);
    if state.leads().is_some() && silence >= state.config.leader_silence() {
        state.lead.send_replace(None);
    }
}

/// Leaves at once to whoever waits; best effort, as silence says the same.
pub(crate) async fn resign(state: &State) {
    if let Some(lead) = state.lead.send_replace(None)
        && let Err(error) = store::resign(&state.pool, lead.epoch).await
    {
        tracing::debug!(%error, "the lead was not handed back; it will be taken over");
    }
}
