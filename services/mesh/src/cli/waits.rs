//! What an invocation waits for, as a line for people with the command that ends the wait.

use mesh_api::journal::{WaitItem, WaitOn};
use mesh_types::InvocationId;

use super::approvals::request_id;

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

#[cfg(test)]
mod tests {
    use super::*;

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
