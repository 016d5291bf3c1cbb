//! `invocation-overview`: how a tenant's work went since a time.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::overview::{Overview, OverviewRequest};
use mesh_types::{Problem, Timestamp};

use crate::state::State;
use crate::store::overview;

pub(super) async fn overview(
    state: &Arc<State>,
    caller: Caller,
    request: OverviewRequest,
) -> Result<Overview, Problem> {
    let (seconds, count) = request.range.parts();
    let at = state.context.clock.now();
    let since = begin(at, seconds, count);
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        overview::count(&mut tx, since, seconds, count).await
    };
    let counted = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "count what ended"))?;
    Ok(Overview {
        range: request.range,
        at,
        since,
        part_seconds: seconds,
        open: counted.open,
        ended: counted.ended,
        cost_usd: counted.cost_usd,
        attention: counted.attention,
        parts: counted.parts,
        agents: counted.agents,
    })
}

/// Parts begin at whole multiples of their length, so that a chart's bars stay what they were; the last one runs.
fn begin(now: Timestamp, seconds: u32, count: u32) -> Timestamp {
    let part = i64::from(seconds) * 1_000_000;
    let running = now.as_micros().div_euclid(part) * part;
    Timestamp::from_micros(running - part * i64::from(count - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_the_running_one() {
        let begin = begin(Timestamp::from_millis(7_250_500), 60, 60);
        assert_eq!(begin, Timestamp::from_millis(7_200_000 - 59 * 60_000));
    }
}
