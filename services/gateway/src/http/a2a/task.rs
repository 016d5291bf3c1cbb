//! Invocations as tasks of A2A, purely.

use std::collections::HashMap;

use a2a::types::{Artifact, Message, Part, Role, Task, TaskState, TaskStatus};
use mesh_api::execution::{Invocation, State};
use mesh_api::journal::{WaitItem, WaitOn};
use mesh_types::{Problem, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::followed::{Ending, text_of};

/// The one artifact of a task: what the agent answers.
pub(super) const ANSWER: &str = "answer";

/// `history`: whether the message that it came with is shown; it needs the invocation's metadata, which only the accept
/// knows, so it is taken from `sent`.
pub(super) fn task(invocation: &Invocation, sent: Option<&Message>) -> Task {
    let ending = Ending::of(invocation);
    let artifacts = ending.as_ref().and_then(answered).map(|artifact| vec![artifact]);
    let state = state_of(invocation.state, &invocation.waits_for);
    let at = invocation
        .ended_at
        .or(invocation.started_at)
        .unwrap_or(invocation.created_at);
    let says = match (&ending, &state) {
        (Some(ending), _) => why(ending),
        (None, TaskState::InputRequired) => Some("waits for a person in the mesh".to_owned()),
        _ => None,
    };
    let mut task = Task {
        id: invocation.id.to_string(),
        context_id: context_of(invocation),
        status: TaskStatus {
            state,
            message: None,
            timestamp: Some(at.to_chrono()),
        },
        artifacts,
        history: sent.map(|message| {
            vec![Message {
                task_id: Some(invocation.id.to_string()),
                context_id: Some(context_of(invocation)),
                ..message.clone()
            }]
        }),
        metadata: Some(HashMap::from([
            ("agent".to_owned(), json!(invocation.agent)),
            ("version".to_owned(), json!(invocation.version)),
            ("usage".to_owned(), json!(invocation.usage)),
        ])),
    };
    task.status.message = says.map(|text| agent_says(&task.id, &task.context_id, text));
    task
}

/// Of one without a session: its own id.
pub(super) fn context_of(invocation: &Invocation) -> String {
    invocation.session.clone().unwrap_or_else(|| invocation.id.to_string())
}

/// The status that follows a change of state; `waits_for` as the event tells it.
pub(super) fn status(state: State, waits_for: Option<&Value>, at: Option<&Value>) -> TaskStatus {
    let waits: Vec<WaitItem> = waits_for
        .and_then(|waits| Vec::deserialize(waits).ok())
        .unwrap_or_default();
    let at = at.and_then(|at| Timestamp::deserialize(at).ok());
    TaskStatus {
        state: state_of(state, &waits),
        message: None,
        timestamp: at.map(Timestamp::to_chrono),
    }
}

/// A wait for a person is one for input; timers and children are work.
pub(super) fn state_of(state: State, waits_for: &[WaitItem]) -> TaskState {
    match state {
        State::Queued => TaskState::Submitted,
        State::Waiting if waits_for.iter().any(asks) => TaskState::InputRequired,
        State::Running | State::Waiting => TaskState::Working,
        State::Completed => TaskState::Completed,
        State::Failed | State::Dead => TaskState::Failed,
        State::Cancelled => TaskState::Canceled,
    }
}

fn asks(item: &WaitItem) -> bool {
    matches!(
        item.on,
        WaitOn::Approval { .. } | WaitOn::Signal { .. } | WaitOn::Ambiguous { .. }
    )
}

/// What it answered.
pub(super) fn answered(ending: &Ending) -> Option<Artifact> {
    let output = ending.output.as_ref().filter(|_| ending.state == State::Completed)?;
    let text = text_of(output);
    let has_more = output
        .as_object()
        .is_some_and(|object| object.len() > 1 || !object.contains_key("text"));
    let parts = match (text.is_empty(), has_more) {
        (_, true) => vec![Part::text(text), Part::data(output.clone())],
        _ => vec![Part::text(text)],
    };
    Some(artifact(parts))
}

pub(super) fn artifact(parts: Vec<Part>) -> Artifact {
    Artifact {
        artifact_id: ANSWER.to_owned(),
        name: Some(ANSWER.to_owned()),
        description: None,
        parts,
        metadata: None,
        extensions: None,
    }
}

/// Why it has no answer.
pub(super) fn why(ending: &Ending) -> Option<String> {
    let said = |problem: &Problem| {
        let next = problem
            .next
            .as_ref()
            .map(|next| format!(" ({next})"))
            .unwrap_or_default();
        format!("{problem}{next}")
    };
    match ending.state {
        State::Completed => None,
        state => Some(ending.error.as_ref().map_or_else(
            || ending.reason.clone().unwrap_or_else(|| state.as_str().to_owned()),
            said,
        )),
    }
}

/// A message of the agent; its id is the task's, as there is one at most.
pub(super) fn agent_says(task: &str, context: &str, text: String) -> Message {
    Message {
        message_id: format!("{task}-status"),
        context_id: Some(context.to_owned()),
        task_id: Some(task.to_owned()),
        role: Role::Agent,
        parts: vec![Part::text(text)],
        metadata: None,
        extensions: None,
        reference_task_ids: None,
    }
}

/// The filter for a list; `None`: every state.
pub(super) fn state_filter(state: &TaskState) -> Option<State> {
    match state {
        TaskState::Submitted => Some(State::Queued),
        TaskState::Working => Some(State::Running),
        TaskState::InputRequired | TaskState::AuthRequired => Some(State::Waiting),
        TaskState::Completed => Some(State::Completed),
        TaskState::Failed | TaskState::Rejected => Some(State::Failed),
        TaskState::Canceled => Some(State::Cancelled),
        TaskState::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn invocation(more: Value) -> Invocation {
        let mut body = json!({"id": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "tenant": "default", "agent": "sofia",
            "version": 1, "state": "queued", "entrypoint": "a2a", "priority": 5, "payload": {}, "usage": {},
            "attempt": 1, "created_at": "2026-01-02T03:04:05Z", "cursor": 1});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn an_invocation_is_a_task() {
        let open = json!(task(&invocation(json!({"session": "c"})), None));
        assert_eq!(open["contextId"], "c");
        assert_eq!(open["status"]["state"], "TASK_STATE_SUBMITTED");
        let done = json!({"state": "completed", "output": {"text": "hi"}});
        let done = json!(task(&invocation(done), None));
        assert_eq!(
            done["artifacts"],
            json!([{"artifactId": "answer", "name": "answer", "parts": [{"text": "hi"}]}])
        );
        let asks = json!({"state": "waiting", "waits_for": [{"step": 2, "on": "approval", "tool": "pay"}]});
        assert_eq!(task(&invocation(asks), None).status.state, TaskState::InputRequired);
        let sleeps =
            json!({"state": "waiting", "waits_for": [{"step": 2, "on": "timer", "until": "2026-01-02T03:04:05Z"}]});
        assert_eq!(task(&invocation(sleeps), None).status.state, TaskState::Working);
        let failed = json!(task(
            &invocation(json!({"state": "failed", "reason": "deadline_exceeded"})),
            None
        ));
        assert_eq!(failed["status"]["message"]["parts"][0]["text"], "deadline_exceeded");
    }

    #[test]
    fn an_output_that_is_more_than_text_is_data_too() {
        let ending = Ending::of(&invocation(json!({"state": "completed", "output": {"value": 7}}))).unwrap();
        let parts = json!(answered(&ending).unwrap().parts);
        assert_eq!(parts, json!([{"text": r#"{"value":7}"#}, {"data": {"value": 7}}]));
    }
}
