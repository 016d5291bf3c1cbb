//! What happens in an invocation as events of an A2A stream: changes of state, and the answer as it grows.

use a2a::event::{StreamResponse, TaskArtifactUpdateEvent, TaskStatusUpdateEvent};
use a2a::types::{Part, TaskState, TaskStatus};
use mesh_api::execution::{Invocation, State};

use super::task::{agent_says, answered, artifact, context_of, state_of, status, why};
use crate::http::followed::{Ending, Told, text_of};

pub(super) struct Fold {
    task: String,
    context: String,
    /// The state that was told last.
    state: TaskState,
    /// The step whose text is the answer so far, and that text.
    saying: Option<(u32, String)>,
    over: bool,
}

impl Fold {
    /// Of a task whose present state is told already.
    pub(super) fn new(invocation: &Invocation) -> Self {
        Self {
            task: invocation.id.to_string(),
            context: context_of(invocation),
            state: state_of(invocation.state, &invocation.waits_for),
            saying: None,
            over: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether a person is waited for.
    pub(super) fn asks(&self) -> bool {
        self.state == TaskState::InputRequired
    }

    pub(super) fn take(&mut self, told: Told) -> Vec<StreamResponse> {
        match told {
            Told::Text { text, .. } if text.is_empty() => Vec::new(),
            Told::Text { step, text } => vec![self.say(step, text)],
            Told::Reset { step } => {
                self.saying.take_if(|(saying, _)| *saying == step);
                Vec::new()
            }
            Told::State(state, data) => {
                let status = status(state, data.get("waits_for"), data.get("at"));
                self.change(status).into_iter().collect()
            }
            Told::Ended(ending) => self.end(&ending),
            Told::Step(_) | Told::Asked(_) => Vec::new(),
        }
    }

    /// Another step, or the same from its beginning, replaces what was said.
    fn say(&mut self, step: u32, text: String) -> StreamResponse {
        let goes_on = match &mut self.saying {
            Some((saying, said)) if *saying == step => {
                said.push_str(&text);
                true
            }
            _ => {
                self.saying = Some((step, text.clone()));
                false
            }
        };
        self.artifact(vec![Part::text(text)], goes_on, false)
    }

    fn artifact(&self, parts: Vec<Part>, append: bool, last: bool) -> StreamResponse {
        StreamResponse::ArtifactUpdate(TaskArtifactUpdateEvent {
            task_id: self.task.clone(),
            context_id: self.context.clone(),
            artifact: artifact(parts),
            append: Some(append),
            last_chunk: Some(last),
            metadata: None,
        })
    }

    fn change(&mut self, status: TaskStatus) -> Option<StreamResponse> {
        if status.state == self.state {
            return None;
        }
        self.state = status.state.clone();
        Some(StreamResponse::StatusUpdate(TaskStatusUpdateEvent {
            task_id: self.task.clone(),
            context_id: self.context.clone(),
            status,
            metadata: None,
        }))
    }

    fn end(&mut self, ending: &Ending) -> Vec<StreamResponse> {
        self.over = true;
        let mut out = Vec::new();
        if let Some(answer) = answered(ending) {
            let text = ending.output.as_ref().map(text_of).unwrap_or_default();
            let is_said = self.saying.as_ref().is_some_and(|(_, said)| *said == text);
            // What was streamed is all of it: there is nothing to add but that it is.
            if is_said && answer.parts.len() == 1 {
                out.push(self.artifact(vec![Part::text("")], true, true));
            } else {
                out.push(self.artifact(answer.parts, false, true));
            }
        }
        let mut status = TaskStatus {
            state: state_of(ending.state, &[]),
            message: None,
            timestamp: None,
        };
        if ending.state != State::Completed {
            status.message = why(ending).map(|text| agent_says(&self.task, &self.context, text));
        }
        out.extend(self.change(status));
        out
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::Usage;
    use serde_json::{Value, json};

    use super::*;

    fn fold() -> Fold {
        let invocation = json!({"id": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "tenant": "default", "agent": "sofia",
            "version": 1, "state": "queued", "entrypoint": "a2a", "priority": 5, "payload": {}, "usage": {},
            "attempt": 1, "created_at": "2026-01-02T03:04:05Z", "cursor": 1});
        Fold::new(&serde_json::from_value(invocation).unwrap())
    }

    fn text(step: u32, text: &str) -> Told {
        Told::Text {
            step,
            text: text.to_owned(),
        }
    }

    fn ended(state: State, output: Option<Value>) -> Told {
        Told::Ended(Box::new(Ending {
            state,
            output,
            error: None,
            reason: None,
            usage: Usage::default(),
        }))
    }

    /// What a client shows that appends and replaces as it is told.
    fn shown(events: &[StreamResponse]) -> (String, Vec<String>) {
        let (mut answer, mut states) = (String::new(), Vec::new());
        for event in events {
            match event {
                StreamResponse::ArtifactUpdate(update) => {
                    if update.append != Some(true) {
                        answer.clear();
                    }
                    answer.extend(update.artifact.parts.iter().filter_map(Part::as_text));
                }
                StreamResponse::StatusUpdate(update) => states.push(json!(update.status.state).to_string()),
                _ => {}
            }
        }
        (answer, states)
    }

    fn told(all: Vec<Told>) -> (String, Vec<String>) {
        let mut fold = fold();
        let events: Vec<StreamResponse> = all.into_iter().flat_map(|told| fold.take(told)).collect();
        assert!(fold.is_over());
        shown(&events)
    }

    #[test]
    fn the_answer_grows_and_is_the_last_steps() {
        let running = || Told::State(State::Running, json!({}));
        let (answer, states) = told(vec![
            running(),
            running(),
            text(2, "let me see"),
            text(4, "it "),
            text(4, "rains"),
            ended(State::Completed, Some(json!({"text": "it rains"}))),
        ]);
        assert_eq!(answer, "it rains");
        assert_eq!(states, ["\"TASK_STATE_WORKING\"", "\"TASK_STATE_COMPLETED\""]);
    }

    #[test]
    fn what_starts_over_is_replaced() {
        let (answer, _) = told(vec![
            text(2, "half"),
            Told::Reset { step: 2 },
            text(2, "all"),
            ended(State::Completed, Some(json!({"text": "all"}))),
        ]);
        assert_eq!(answer, "all");
    }

    #[test]
    fn what_is_not_streamed_comes_whole_and_a_failure_says_why() {
        assert_eq!(told(vec![ended(State::Completed, Some(json!({"text": "hi"})))]).0, "hi");
        let mut fold = fold();
        let events = fold.take(ended(State::Failed, None));
        assert_eq!(
            json!(events[0])["statusUpdate"]["status"]["message"]["parts"][0]["text"],
            "failed"
        );
    }
}
