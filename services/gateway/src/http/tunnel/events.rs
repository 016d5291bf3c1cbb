//! The event stream of a tunnel: every frame once, resumed by `Last-Event-ID`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use mesh_types::{NodeId, TunnelId};
use serde_json::json;

use super::{opener_of, own_tunnel};
use crate::http::extract::{FromParams, Params, Query, Segment, WhoNode, header_text};
use crate::http::origin;
use crate::http::problem::Failure;
use crate::state::App;
use crate::tunnel::log::Next;
use crate::tunnel::{Attached, Road, Tunnels};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A tunnel and the number of a frame: `tun_01ARZ3NDEKTSV4RRFFQ69G5FAV:7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    tunnel: TunnelId,
    number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tunnel, self.number)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let wrong = || format!("`{shown}` is no event id of a tunnel");
        let (tunnel, number) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            tunnel: tunnel.parse().map_err(|_| wrong())?,
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}

pub(super) struct Where {
    tunnel: Option<TunnelId>,
    after: Option<Place>,
}

impl FromParams for Where {
    const NAMES: &'static [&'static str] = &["tunnel", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self {
            tunnel: params.take("tunnel")?,
            after: params.take("after")?,
        })
    }
}

/// Frames of a tunnel: `opened`, `message`, `token`, `done`, `failed`, and `close` as the last; the data is the frame with
/// its tunnel and number. Without `tunnel` a new one is opened. The `id` of the last event as `Last-Event-ID` (or
/// `?after=`) continues without loss or repetition; where frames are not kept any more, `reset` says up to which.
#[utoipa::path(get, path = "/api/runtimes/v1/agent-nodes/{node_id}/tunnel/events", operation_id = "tunnel_events", tag = "tunnel",
    params(("node_id" = NodeId, Path), ("tunnel" = Option<TunnelId>, Query), ("Last-Event-ID" = Option<String>, Header),
        ("after" = Option<String>, Query, description = "As Last-Event-ID, for clients that cannot set headers")),
    security(("credential" = ["service"])),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 204, description = "all of it is told")))]
pub(super) async fn events(
    State(app): State<App>,
    who: WhoNode,
    Segment(node): Segment<NodeId>,
    Query(Where { tunnel, after }): Query<Where>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let resumed = match header_text(&headers, "last-event-id")?.filter(|text| !text.is_empty()) {
        Some(text) => Some(
            text.parse()
                .map_err(|words: String| Failure::invalid("Last-Event-ID", words))?,
        ),
        None => after,
    };
    if let (Some(tunnel), Some(Place { tunnel: named, .. })) = (tunnel, resumed)
        && tunnel != named
    {
        return Err(Failure::invalid("tunnel", format!("the event id is of tunnel {named}")));
    }
    let opener = opener_of(who);
    let share = app.streams.take(&opener.caller.tenant)?;
    let (tunnel, told) = match (resumed, tunnel) {
        (Some(Place { tunnel, number }), _) => (own_tunnel(&app, &opener, &node, tunnel).await?, number),
        (None, Some(tunnel)) => (own_tunnel(&app, &opener, &node, tunnel).await?, 0),
        (None, None) => (Tunnels::open(&app, opener, &node, Road::Events).await?.0, 0),
    };
    check_place(told, tunnel.log.last(), "Last-Event-ID")?;
    if !tunnel.is_open() && told == tunnel.log.last() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stream = stream(tunnel.attach(told)?, share);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    let mut response = Sse::new(stream).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A place that lies ahead would be waited for in vain.
pub(super) fn check_place(told: u64, last: u64, field: &str) -> Result<(), Failure> {
    if told <= last {
        return Ok(());
    }
    let detail = format!("the tunnel has {last} frames, the place named is {told}");
    Err(Failure::invalid(field, detail).next("leave it out to start at the beginning"))
}

/// Ends after the last frame, and after a `reset` that a reader got for being slow: it comes back from there.
fn stream<P: Send + 'static>(reader: Attached, permit: P) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    let start = (reader, permit, 0_u64, false);
    futures::stream::unfold(start, |(mut reader, permit, told, is_over)| async move {
        if is_over {
            return None;
        }
        let tunnel = reader.tunnel.id;
        let event = |number: u64, name: &str| {
            let place = Place { tunnel, number };
            SseEvent::default().id(place.to_string()).event(name)
        };
        match reader.next().await {
            Next::Entry(entry) => {
                let event = event(entry.number, entry.name).data(&*entry.json);
                Some((Ok(event), (reader, permit, told + 1, false)))
            }
            Next::Lost { up_to } => {
                let data = json!({"tunnel": tunnel, "lost_up_to": up_to}).to_string();
                // A stream that was told something before fell behind while it was open.
                let is_slow = told > 0;
                Some((
                    Ok(event(up_to, "reset").data(data)),
                    (reader, permit, told + 1, is_slow),
                ))
            }
            Next::Over(_) | Next::Nothing => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let text = "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV:7";
        assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        for wrong in [
            "",
            "7",
            "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV:",
            "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV:-1",
            "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV:7",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
