//! What an invocation waits for, as a line for people with the command that ends the wait.

use mesh_api::execution::Invocation;
use mesh_api::journal::{WaitItem, WaitOn};
use mesh_types::InvocationId;

use super::approvals::request_id;

/// Reason of a queued invocation whose agent runs on nodes only.
const WAITS_FOR_NODE: &str = "waits_for_node";

pub(super) fn line(invocation: InvocationId, item: &WaitItem) -> String {
    let request = request_id(invocation, item.step);
    match &item.on {
        WaitOn::Timer { until } => format!("waiting for a timer until {until}"),
        WaitOn::Approval { tool } => {
            format!("waiting for approval: mesh approve {request} lets `{tool}` run, mesh deny {request} refuses it")
        }
        WaitOn::Signal { name, until } => {
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            format!("waiting for signal `{name}`{until}: mesh signal {invocation} {name}")
        }
        WaitOn::Child { invocation: child } => format!("waiting for its child: mesh steps {child}"),
        WaitOn::Ambiguous { name } => format!(
            "waiting to be told whether `{name}` happened: mesh approve {request} runs it again, \
             with --result takes it as done, mesh deny {request} as failed"
        ),
    }
}

/// In a few words, for a table.
pub(super) fn short(item: &WaitItem) -> String {
    match &item.on {
        WaitOn::Timer { until } => format!("timer until {until}"),
        WaitOn::Approval { tool } => format!("approval of {tool}"),
        WaitOn::Signal { name, .. } => format!("signal {name}"),
        WaitOn::Child { invocation } => format!("child {invocation}"),
        WaitOn::Ambiguous { name } => format!("whether {name} happened"),
    }
}

/// Of an invocation of which nothing is heard: its id, and where it is.
pub(super) fn silent(invocation: &Invocation) -> String {
    let Invocation { id, state, .. } = invocation;
    if invocation.paused {
        return format!("{id} is {}, paused: mesh get pauses says what holds it", state.as_str());
    }
    match invocation.reason.as_deref() {
        Some(WAITS_FOR_NODE) => format!("{id} waits for a node that may run it: mesh plan says why"),
        Some(reason) => format!("{id} is {} ({reason})", state.as_str()),
        None => format!("{id} is {}", state.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_explained() {
        let id = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let of = |reason: Option<&str>, paused: bool| {
            let invocation = serde_json::from_value(serde_json::json!({
                "id": id, "tenant": "default", "agent": "sofia", "version": 1, "state": "queued", "session": null,
                "entrypoint": "api", "priority": 5, "payload": {}, "output": null, "error": null, "provider": null,
                "usage": mesh_api::journal::Usage::default(), "parent": null, "forked_from": null, "attempt": 0, "cursor": 0,
                "created_at": "2026-11-21T12:00:00Z", "started_at": null, "ended_at": null,
                "reason": reason, "paused": paused,
            }));
            silent(&invocation.unwrap())
        };
        let waits = of(Some("waits_for_node"), false);
        assert_eq!(
            waits,
            format!("{id} waits for a node that may run it: mesh plan says why")
        );
        assert_eq!(of(None, false), format!("{id} is queued"));
        assert!(of(Some("waits_for_node"), true).contains("queued, paused"));
    }

    #[test]
    fn each_wait_says_what_ends_it() {
        let id: InvocationId = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for (on, command) in [
            (
                WaitOn::Approval { tool: "refund".into() },
                format!("waiting for approval: mesh approve {id}-4"),
            ),
            (
                WaitOn::Signal {
                    name: "paid".into(),
                    until: None,
                },
                format!("mesh signal {id} paid"),
            ),
            (WaitOn::Child { invocation: id }, format!("mesh steps {id}")),
            (WaitOn::Ambiguous { name: "refund".into() }, format!("mesh deny {id}-4")),
        ] {
            let item = WaitItem { step: 4, on };
            assert!(line(id, &item).contains(&command), "{}", line(id, &item));
            assert!(short(&item).chars().count() < 50);
        }
    }
}
