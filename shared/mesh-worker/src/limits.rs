//! What one invocation may use: iterations, tool calls, tokens, money. Each end names its limit. Time is in `budget`.

use mesh_api::journal::{Ended, Usage};
use mesh_types::agent::Limits;

use crate::ends::limit;

/// What it has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) iterations: u32,
    pub(crate) tool_calls: u32,
    pub(crate) usage: Usage,
}

/// The end, if it may not go on. Tokens and money are looked at before they are spent, so that an answer which was
/// paid for is given, and the last call may exceed them.
pub(crate) fn reached(limits: &Limits, used: Used, asks_a_model: bool) -> Option<Ended> {
    let Used {
        iterations,
        tool_calls,
        usage,
    } = used;
    if let Some(allowed) = limits.tool_calls
        && tool_calls > allowed
    {
        return Some(limit("tool_calls", allowed));
    }
    if asks_a_model && iterations >= limits.iterations {
        return Some(limit("iterations", limits.iterations));
    }
    if iterations == 0 {
        return None;
    }
    if let Some(allowed) = limits.tokens
        && usage.input_tokens.saturating_add(usage.output_tokens) >= allowed
    {
        return Some(limit("tokens", allowed));
    }
    if let Some(allowed) = limits.cost_usd
        && usage.cost_usd >= allowed
    {
        return Some(limit("cost_usd", allowed));
    }
    None
}
