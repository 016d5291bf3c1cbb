//! A chat with a node through its tunnel, as AG-UI events.

use std::collections::VecDeque;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures::Stream;
use mesh_api::tunnel::Frame;
use mesh_types::{Code, NodeId, Problem, Token};
use serde_json::Value;

use super::fold::Fold;
use super::input::RunAgentInput;
use super::{sent, with_farewell};
use crate::http::extract::{Json, Nothing, Query, Segment, WhoNode};
use crate::http::followed::{sse, text_of};
use crate::http::origin;
use crate::http::problem::Failure;
use crate::http::shares::Share;
use crate::http::tunnel::{exchange_id, frame_of, opener_of, posted_before};
use crate::state::App;
use crate::tunnel::log::Next;
use crate::tunnel::{Attached, Road, Tunnels};

/// Chats with a node as AG-UI has it. The node answers with its own models; the client's tools are not offered to it.
#[utoipa::path(post, path = "/api/runtimes/v1/agent-nodes/{node_id}/ag-ui", operation_id = "ag_ui_node", tag = "ag-ui",
    params(("node_id" = NodeId, Path)), request_body = RunAgentInput,
    security(("credential" = ["service"])),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn chat(
    State(app): State<App>,
    who: WhoNode,
    Segment(node): Segment<NodeId>,
    Query(Nothing): Query<Nothing>,
    headers: HeaderMap,
    Json(input): Json<RunAgentInput>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let body = input.for_node()?;
    let opener = opener_of(who);
    let share = app.streams.take(&opener.caller.tenant)?;
    let tunnel = match posted_before(&app, &opener, &node).await? {
        Some(tunnel) => tunnel,
        None => Tunnels::open(&app, opener, &node, Road::Messages).await?.0,
    };
    let id = exchange_id(&app, None);
    // Before it is sent: its end is not missed.
    let frames = tunnel.attach(tunnel.log.last())?;
    let chat: Token = "chat".parse()?;
    tunnel.send(&id, &chat, body)?;
    let fold = Fold::new(input, id.to_string());
    let talk = Talk {
        app,
        reader: frames,
        id: id.to_string(),
        fold,
        _share: share,
    };
    Ok(with_farewell(sse(stream(talk))))
}

struct Talk {
    app: App,
    reader: Attached,
    id: String,
    fold: Fold,
    _share: Share,
}

fn stream(mut talk: Talk) -> impl Stream<Item = SseEvent> {
    let begun = VecDeque::from(talk.fold.begin());
    futures::stream::unfold((talk, begun), |(mut talk, mut waiting)| async move {
        loop {
            if let Some(event) = waiting.pop_front() {
                return Some((sent(&event), (talk, waiting)));
            }
            if talk.fold.is_over() {
                return None;
            }
            let next = tokio::select! {
                next = talk.reader.next() => next,
                () = talk.app.shutdown.cancelled() => return None,
            };
            waiting.extend(talk.take(next));
        }
    })
}

impl Talk {
    fn take(&mut self, next: Next) -> Vec<Value> {
        let gone = |why: &str| Problem::new(Code::TunnelClosed, format!("the chat broke off: {why}"));
        match next {
            Next::Entry(entry) => told(&mut self.fold, &self.id, frame_of(&entry)),
            Next::Over(ended) => self.fold.broken(&gone(ended.reason())),
            Next::Lost { .. } => self.fold.broken(&gone("this reader was too slow")),
            Next::Nothing => Vec::new(),
        }
    }
}

/// What a frame of the node says in the exchange.
fn told(fold: &mut Fold, exchange: &str, frame: Frame) -> Vec<Value> {
    let mut out = Vec::new();
    match frame {
        Frame::Token { id, text } if id == exchange => fold.say(1, &text, &mut out),
        Frame::Message { id, kind, .. } if id == exchange && kind == "reset" => fold.start_over(1, &mut out),
        Frame::Done { id, body } if id == exchange => {
            // A node that streams nothing says all of it at the end.
            let text = text_of(&body);
            if fold.has_said_nothing() && body.get("text").is_some() {
                fold.say(1, &text, &mut out);
            }
            fold.finish(false, &[], &mut out);
            if let Some(last) = out.last_mut() {
                last["result"] = body;
            }
        }
        Frame::Failed { id, problem } if id == exchange => return fold.broken(&problem),
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_of_the_exchange_are_events_and_others_are_not() {
        let input = json!({"threadId": "t", "runId": "r", "messages": []});
        let mut fold = Fold::new(serde_json::from_value(input).unwrap(), "x".into());
        let token = |id: &str, text: &str| Frame::Token {
            id: id.into(),
            text: text.into(),
        };
        let reset = Frame::Message {
            id: "x".into(),
            kind: "reset".into(),
            body: Value::Null,
        };
        let done = Frame::Done {
            id: "x".into(),
            body: json!({"text": "hello"}),
        };
        let frames = [token("y", "no"), token("x", "he"), reset, token("x", "hello"), done];
        let events: Vec<Value> = frames
            .into_iter()
            .flat_map(|frame| told(&mut fold, "x", frame))
            .collect();
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!(
            kinds.join(" "),
            "TEXT_MESSAGE_START TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END MESSAGES_SNAPSHOT TEXT_MESSAGE_START \
             TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END RUN_FINISHED"
        );
        assert!(fold.is_over());
    }
}
