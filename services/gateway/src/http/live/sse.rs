//! `GET /api/v1/events`: the same pushes as server-sent events.

use std::convert::Infallible;
use std::future::poll_fn;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::Utf8Bytes;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Permit, Sender};

use super::cursor::LiveCursor;
use super::pushes::{Form, Pushes, Told};
use super::visitor::{Line, Place, Visitor};
use super::wanted::Wanted;
use crate::http::credentials::{SignedIn, Who};
use crate::http::extract::{FromParams, Params, Query, header_text};
use crate::http::origin;
use crate::http::problem::Failure;
use crate::state::App;

/// Events that are handed to the connection ahead of its writing.
const AHEAD: usize = 64;
/// A comment, so that proxies and clients see that the line is alive.
const ALIVE: &str = ": alive\n\n";

pub(super) struct Asked {
    topics: String,
    after: Option<String>,
}

impl FromParams for Asked {
    const NAMES: &'static [&'static str] = &["topics", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self {
            topics: params.take("topics")?.unwrap_or_default(),
            after: params.take("after")?,
        })
    }
}

/// Live pushes as server-sent events: the event is the push's `event`, the data the whole push, the id its cursor. The
/// `id` of the last event as `Last-Event-ID` (or `?after=`) continues without loss or repetition. Topics, and the events
/// `live`, `reset` and `error`, are those of `/api/v1/ws`.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "live_events", tag = "live",
    params(("topics" = String, Query, description = "With commas between them"), ("Last-Event-ID" = Option<String>, Header),
        ("after" = Option<String>, Query, description = "As Last-Event-ID, for clients that cannot set headers")),
    security(("credential" = ["viewer"])),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn events(
    State(app): State<App>,
    Who(caller): Who,
    Query(Asked { topics, after }): Query<Asked>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let visitor = Visitor::signed_in(caller, extensions.get::<SignedIn>());
    let topics_max = app.live.topics_max;
    let names: Vec<&str> = topics
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return Err(Failure::invalid("topics", "nothing is subscribed to").next("?topics=invocations,nodes"));
    }
    let wanted = Wanted::read(names, &visitor, topics_max)?;
    let last = header_text(&headers, "last-event-id")?.filter(|text| !text.is_empty());
    let after = last.or(after.as_deref()).filter(|text| !text.is_empty());
    let after = after
        .map(|text| LiveCursor::read(text, topics_max))
        .transpose()
        .map_err(Failure)?;
    let place = visitor.enter(&app, Line::Events)?;
    let pushes = Pushes::begin(app.clone(), visitor, wanted, after, Form::Sse)
        .await
        .map_err(|(_, failure)| failure)?;
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    app.hub.tasks().spawn("live-events-out", serve(pushes, sender, place));
    let body =
        futures::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|frame| frame.map(Ok::<Bytes, Infallible>)));
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Until the client is gone or the stream ends; the client comes back by itself.
async fn serve(mut pushes: Pushes, sender: Sender<Bytes>, place: Place) {
    while let Some(permit) = room(&mut pushes, &sender).await {
        let told = tokio::select! {
            told = poll_fn(|cx| pushes.poll(cx, false)) => told,
            () = sender.closed() => break,
        };
        let frame = match told {
            Told::Send(frame) => frame,
            Told::Ping => Utf8Bytes::from_static(ALIVE),
            Told::End(_) => break,
        };
        permit.send(Bytes::from(frame));
    }
    drop(place);
}

/// Room for one event; `None` when the client is gone, or so slow that it is cut off.
async fn room<'a>(pushes: &mut Pushes, sender: &'a Sender<Bytes>) -> Option<Permit<'a, Bytes>> {
    match sender.try_reserve() {
        Ok(permit) => return Some(permit),
        Err(TrySendError::Closed(())) => return None,
        Err(TrySendError::Full(())) => pushes.is_blocked(true),
    }
    let ended = async {
        loop {
            if let Told::End(_) = poll_fn(|cx| pushes.poll(cx, true)).await {
                return;
            }
        }
    };
    let permit = tokio::select! {
        permit = sender.reserve() => permit.ok(),
        () = ended => None,
    };
    pushes.is_blocked(false);
    permit
}
