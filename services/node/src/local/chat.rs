//! `/api/v1/chat`: one answer as server-sent events: `token`, `reset`, `done`, `failed`. Only in private mode.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde_json::json;

use super::App;
use super::problem::{Body, Failure};
use crate::chat::{ChatRequest, Said, Talk, Talker};

/// A comment goes out this often, so that the page sees that the line is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn talk(State(app): State<App>, Body(request): Body<ChatRequest>) -> Result<Response, Failure> {
    let talk = app.chat.talk(Talker::Page, request).await?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    let mut response = Sse::new(events(talk).take_until(app.context.shutdown.clone().cancelled_owned()))
        .keep_alive(keep_alive)
        .into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    Ok(response)
}

fn events(talk: Talk) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(talk, |mut talk| async move {
        let event = event(talk.next().await?);
        Some((Ok(event), talk))
    })
}

fn event(said: Said) -> Event {
    let (name, data) = match said {
        Said::Text(text) => ("token", json!({"text": text})),
        Said::Reset(attempt) => ("reset", json!({"attempt": attempt})),
        Said::Done(completion) => ("done", json!(completion)),
        Said::Failed(problem) => ("failed", json!(problem)),
    };
    // Text of JSON has no line breaks, so it is one line of an event.
    Event::default().event(name).data(data.to_string())
}
