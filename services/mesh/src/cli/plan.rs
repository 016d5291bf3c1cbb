//! `mesh plan`: what the reconciler would do now and why, without doing it.

use clap::Args;
use mesh_api::reconciler::{Action, ActionKind, AgentState, Brain, Pass, Seen};
use reqwest::Method;
use serde_json::Value;

use super::Session;
use crate::output::{Mood, Output};

/// Show what the reconciler would do now, and why; nothing is applied
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {}

const EXAMPLES: &str = "Examples:
  mesh plan
  mesh plan -o json | jq -r '.actions[].sentence'

Nothing to do: all is as it should be, or the agents that lack replicas are named. What was done before is in `mesh brain`.";

pub(crate) async fn run(_args: PlanArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let pass: Pass = client.send(Method::POST, "/api/v1/plan", &[], None::<&Value>).await?;
    let output = session.output;
    // Who lacks what is in the state of the mesh only; without it the totals say how much.
    let brain: Option<Brain> = if output.is_table() && pass.actions.is_empty() {
        client.get("/api/v1/brain/state", &[]).await.ok()
    } else {
        None
    };
    output.show(&pass, || {
        for action in &pass.actions {
            output.line(&sentence(output, action))?;
        }
        if pass.more > 0 {
            output.line(&output.faint(&format!("and {} more", pass.more)))?;
        }
        if pass.actions.is_empty() {
            let lack = brain.and_then(|brain| lacking(&brain.agents));
            output.line(&match lack {
                Some(text) => text,
                None if is_short(&pass.seen) => idle(&pass.seen),
                None => "nothing to do: all is as it should be".to_owned(),
            })?;
        }
        output.note(&output.faint(&seen(&pass.seen)));
        Ok(())
    })
}

/// Agents that are named; of more there is a count.
const NAMED_MAX: usize = 5;

/// Of agents with fewer replicas than they are to have: who they are, and whether anything is under way. `None`: all
/// have what they are to have.
pub(super) fn lacking(agents: &[AgentState]) -> Option<String> {
    let short: Vec<_> = agents.iter().filter(|agent| agent.ready < agent.wanted).collect();
    if short.is_empty() {
        return None;
    }
    let named = short
        .iter()
        .take(NAMED_MAX)
        .map(|agent| format!("{} has {} of {} ready", agent.agent, agent.ready, agent.wanted));
    let mut named: Vec<_> = named.collect();
    if short.len() > NAMED_MAX {
        named.push(format!("{} more agents lack some", short.len() - NAMED_MAX));
    }
    let named = named.join(", ");
    Some(if short.iter().all(|agent| agent.assigned >= agent.wanted) {
        format!("nothing more to do, replicas are placed and on their way: {named}")
    } else {
        format!("nothing can be done now: {named}")
    })
}

/// Of a pass without an action.
pub(super) fn idle(seen: &Seen) -> String {
    if is_short(seen) {
        format!(
            "nothing can be done now: {} of {} replicas are ready",
            seen.replicas_ready, seen.replicas_wanted
        )
    } else {
        "nothing to do".to_owned()
    }
}

const fn is_short(seen: &Seen) -> bool {
    seen.replicas_ready < seen.replicas_wanted
}

/// An action as its sentence, marked by what it means.
pub(super) fn sentence(output: Output, action: &Action) -> String {
    let text: String = action.sentence.chars().filter(|letter| !letter.is_control()).collect();
    let (sign, mood) = match action.kind {
        ActionKind::Place => ("+", Mood::Good),
        ActionKind::Stop | ActionKind::Remove => ("-", Mood::Doubtful),
        ActionKind::Serve | ActionKind::Scale => ("~", Mood::Good),
        ActionKind::Hold => ("!", Mood::Doubtful),
        ActionKind::RollBack => ("!", Mood::Bad),
    };
    format!("{} {text}", output.mood(mood, sign))
}

pub(super) fn seen(seen: &Seen) -> String {
    let Seen {
        nodes,
        nodes_alive,
        agents,
        replicas_wanted,
        replicas_ready,
        waiting,
        ..
    } = seen;
    let queue = if *waiting > 0 {
        format!(", {waiting} invocations wait")
    } else {
        String::new()
    };
    format!(
        "{nodes_alive} of {nodes} nodes are there, {agents} agents want {replicas_wanted} replicas, \
         {replicas_ready} are ready{queue}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, [wanted, assigned, ready]: [u32; 3]) -> AgentState {
        AgentState {
            tenant: mesh_types::Tenant::default(),
            agent: name.parse().unwrap(),
            version: 1,
            serving: None,
            wanted,
            assigned,
            ready,
            waiting: 0,
            running: 0,
        }
    }

    #[test]
    fn who_lacks_replicas_is_named_and_whether_they_come() {
        assert_eq!(lacking(&[agent("ann", [2, 2, 2]), agent("bob", [1, 2, 2])]), None);
        let coming = lacking(&[agent("ann", [2, 2, 0]), agent("bob", [1, 1, 1])]).unwrap();
        assert!(
            coming.contains("on their way: ann has 0 of 2 ready") && !coming.contains("bob"),
            "{coming}"
        );
        let held = lacking(&[agent("ann", [2, 2, 0]), agent("bob", [3, 1, 1])]).unwrap();
        assert!(
            held.starts_with("nothing can be done now") && held.contains("bob has 1 of 3 ready"),
            "{held}"
        );
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
            .map(|name| agent(name, [1, 0, 0]))
            .into();
        assert!(lacking(&many).unwrap().ends_with("2 more agents lack some"));
    }

    #[test]
    fn a_pass_that_did_nothing_says_what_it_could_not() {
        let seen = |replicas_ready| Seen {
            replicas_wanted: 2,
            replicas_ready,
            ..Seen::default()
        };
        assert_eq!(idle(&seen(2)), "nothing to do");
        assert!(idle(&seen(0)).contains("0 of 2"));
    }
}
