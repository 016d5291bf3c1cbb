//! `/api/v1/invocations/{id}/events`: one invocation as server-sent events, resumable anywhere (EXECUTION §9).
//!
//! Subscribe first, then read the feed, then follow: what is published in between is in both and told once. Nothing
//! waits for anything else: a token goes out while the feed is read.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use futures::future::BoxFuture;
use mesh_api::Caller;
use mesh_api::execution::{FeedRequest, InvocationFeed, InvocationGet, InvocationRequest};
use mesh_api::journal::{JournalPage, TokenChunk};
use mesh_bus::{BusError, Message, Subscription};
use mesh_types::subject::Filter;
use mesh_types::{Code, InvocationId, Subject};
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Params, Query, Segment, Who, header_text};
use super::problem::Failure;
use super::shares::Share;
use crate::feed::{Cursor, Follower, Taken};
use crate::state::App;

/// A comment goes out this often, so that proxies and clients see that the line is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// JOURNAL may lose messages: the feed is read at least this often.
const FEED_INTERVAL: Duration = Duration::from_secs(15);
/// Pause after the feed could not be read.
const FEED_RETRY: Duration = Duration::from_secs(1);
/// Streamed text is read back at most this often, and at most so many pieces.
const TEXT_INTERVAL: Duration = Duration::from_secs(1);
const TEXT_PIECES_MAX: usize = 20_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Events `invocation.<state>`, `step.recorded`, `token`, `reset`, `approval.requested`, `approval.decided`,
/// `invocation.paused`, `invocation.resumed`; closes after the end. The `id` of the last event as `Last-Event-ID` (or
/// `?after=`) continues without loss or repetition; 204 when nothing can follow.
#[utoipa::path(get, path = "/api/v1/invocations/{id}/events", operation_id = "follow_invocation", tag = "invocations",
    params(("id" = InvocationId, Path), ("Last-Event-ID" = Option<String>, Header),
        ("after" = Option<String>, Query, description = "As Last-Event-ID, for clients that cannot set headers")),
    security(("credential" = ["viewer"])),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 204, description = "all of it is told")))]
async fn events(
    State(app): State<App>,
    Who(caller): Who,
    Segment(id): Segment<InvocationId>,
    Query(After(after)): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let cursor = match header_text(&headers, "last-event-id")?.filter(|text| !text.is_empty()) {
        Some(text) => text
            .parse()
            .map_err(|problem: mesh_types::Problem| Failure(problem.field("Last-Event-ID")))?,
        None => after.unwrap_or_default(),
    };
    let share = app.streams.take(&caller.tenant)?;
    let live = Live::open(app, caller, id, cursor, share).await?;
    let Some(live) = live else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    let mut response = Sse::new(live.into_stream()).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct After(Option<Cursor>);

impl FromParams for After {
    const NAMES: &'static [&'static str] = &["after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        params.take("after").map(Self)
    }
}

/// What a read brings.
enum Brought {
    Records(Result<JournalPage, Failure>),
    Text(Result<Vec<Message>, BusError>),
}

/// What happens next to a stream.
enum Turn {
    Record(Message),
    Token(Message),
    Read(Brought),
    Reconnected,
    Time,
}

/// One open stream. Memory is bounded: one page of the feed, and what the bus holds for a slow subscriber.
pub(super) struct Live {
    app: App,
    caller: Caller,
    id: InvocationId,
    follower: Follower,
    journal: Subscription,
    tokens: Subscription,
    /// Rises when messages may have been lost.
    bell: watch::Receiver<u64>,
    /// One read at a time.
    reading: Option<BoxFuture<'static, Brought>>,
    /// The feed is to be read, at the earliest then.
    behind: Option<Instant>,
    /// When the feed is to be read at the latest.
    look_at: Instant,
    /// Text of a running step is missing; it is to be read back, at the earliest then.
    text_behind: Option<Instant>,
    share: Option<Share>,
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.share.take());
        self.app.show_open_streams();
    }
}

impl Live {
    /// `None` if the reader has everything and nothing can follow.
    pub(super) async fn open(
        app: App,
        caller: Caller,
        id: InvocationId,
        cursor: Cursor,
        share: Share,
    ) -> Result<Option<Self>, Failure> {
        let tenant = caller.tenant.clone();
        let mut bell = app.bus.reconnects();
        bell.mark_unchanged();
        let journal = Subject::Journal {
            tenant: tenant.clone(),
            invocation: id,
        };
        let journal = app.bus.subscribe(&Filter::Only(journal)).await.map_err(no_bus)?;
        let tokens = app
            .bus
            .subscribe(&Filter::Only(Subject::Tokens { tenant, invocation: id }))
            .await
            .map_err(no_bus)?;
        let invocation = app.call::<InvocationGet>(&caller, &InvocationRequest { id }).await?;
        if cursor.seq > invocation.cursor {
            let detail = format!(
                "the invocation has {} records, the event id names record {}",
                invocation.cursor, cursor.seq
            );
            return Err(Failure::invalid("Last-Event-ID", detail).next("leave it out to start at the beginning"));
        }
        if invocation.state.is_ended() && cursor.seq == invocation.cursor {
            return Ok(None);
        }
        app.show_open_streams();
        let now = Instant::now();
        Ok(Some(Self {
            follower: Follower::new(id, cursor),
            app,
            caller,
            id,
            journal,
            tokens,
            bell,
            reading: None,
            behind: Some(now),
            look_at: now + FEED_INTERVAL,
            text_behind: Some(now),
            share: Some(share),
        }))
    }

    fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        futures::stream::unfold(self, |mut live| async move {
            let event = live.next().await?;
            let event = SseEvent::default()
                .id(event.cursor.to_string())
                .event(event.name)
                .data(event.data.to_string());
            Some((Ok(event), live))
        })
    }

    /// The next event; `None` after the end, at a shutdown, or when the bus is gone for good.
    pub(super) async fn next(&mut self) -> Option<crate::feed::Event> {
        loop {
            if let Some(event) = self.follower.pop() {
                return Some(event);
            }
            if self.follower.has_ended() {
                return None;
            }
            match self.turn().await? {
                Turn::Record(message) => self.take_journal(&message.payload),
                Turn::Token(message) => self.take_token(&message.payload),
                Turn::Read(brought) => self.take_read(brought)?,
                Turn::Reconnected => {
                    let now = Instant::now();
                    (self.behind, self.text_behind) = (Some(now), Some(now));
                }
                Turn::Time => {}
            }
        }
    }

    /// Waits for what comes first; begins what is to be read.
    async fn turn(&mut self) -> Option<Turn> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.reading.is_none() {
            if is_due(self.behind) || self.look_at <= now {
                self.reading = Some(self.read_feed());
            } else if self.behind.is_none() && is_due(self.text_behind) {
                // After the feed: only then it is known which steps still run.
                self.reading = Some(self.read_text());
            }
        }
        let is_reading = self.reading.is_some();
        let text_at = self.text_behind.filter(|_| self.behind.is_none());
        let wake_at = [self.behind, text_at]
            .into_iter()
            .flatten()
            .fold(self.look_at, Instant::min);
        let read = async {
            match &mut self.reading {
                Some(reading) => reading.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.app.shutdown.cancelled() => None,
            message = self.journal.next() => Some(Turn::Record(message?)),
            message = self.tokens.next() => Some(Turn::Token(message?)),
            brought = read => {
                self.reading = None;
                Some(Turn::Read(brought))
            }
            changed = self.bell.changed() => changed.ok().map(|()| Turn::Reconnected),
            () = tokio::time::sleep_until(wake_at), if !is_reading => Some(Turn::Time),
        }
    }

    fn take_journal(&mut self, payload: &[u8]) {
        let is_whole = match serde_json::from_slice::<JournalPage>(payload) {
            Ok(page) => {
                let more = page.more;
                self.follower.take_records(page.records) == Taken::All && !more
            }
            Err(error) => {
                tracing::warn!(%error, invocation = %self.id, "a journal message could not be read; the feed has it");
                false
            }
        };
        if !is_whole && self.behind.is_none() {
            self.behind = Some(Instant::now());
        }
    }

    fn take_token(&mut self, payload: &[u8]) {
        if self.take_chunk(payload) == Taken::Gap && self.text_behind.is_none() {
            self.text_behind = Some(Instant::now() + TEXT_INTERVAL);
        }
    }

    fn take_chunk(&mut self, payload: &[u8]) -> Taken {
        match serde_json::from_slice::<TokenChunk>(payload) {
            Ok(chunk) => self.follower.take_chunk(&chunk),
            // The step's record has the text.
            Err(error) => {
                tracing::warn!(%error, invocation = %self.id, "a token message could not be read");
                Taken::All
            }
        }
    }

    /// One page above the mark.
    fn read_feed(&mut self) -> BoxFuture<'static, Brought> {
        (self.behind, self.look_at) = (None, Instant::now() + FEED_INTERVAL);
        let request = FeedRequest {
            invocation: self.id,
            after_seq: self.follower.read(),
        };
        let (app, caller) = (self.app.clone(), self.caller.clone());
        Box::pin(async move { Brought::Records(app.call::<InvocationFeed>(&caller, &request).await) })
    }

    /// The streamed text from its beginning. What is not kept any more comes with the step's record.
    fn read_text(&mut self) -> BoxFuture<'static, Brought> {
        self.text_behind = None;
        let subject = Subject::Tokens {
            tenant: self.caller.tenant.clone(),
            invocation: self.id,
        };
        let bus = self.app.bus.clone();
        Box::pin(async move { Brought::Text(bus.read_back(&subject, TEXT_PIECES_MAX).await) })
    }

    /// `None` if the invocation is gone.
    fn take_read(&mut self, brought: Brought) -> Option<()> {
        let now = Instant::now();
        match brought {
            Brought::Records(Ok(page)) => {
                let (more, is_empty) = (page.more, page.records.is_empty());
                let taken = self.follower.take_records(page.records);
                if more || taken == Taken::Gap {
                    // A page that should lead on but does not is asked for again later, not at once.
                    let leads_on = !is_empty && taken == Taken::All;
                    self.behind = Some(if leads_on { now } else { now + FEED_RETRY });
                }
            }
            Brought::Records(Err(Failure(problem))) if problem.status == 404 => return None,
            Brought::Records(Err(_)) => self.behind = Some(now + FEED_RETRY),
            Brought::Text(Ok(pieces)) => {
                for piece in pieces {
                    self.take_chunk(&piece.payload);
                }
            }
            Brought::Text(Err(error)) => {
                tracing::debug!(%error, invocation = %self.id, "its streamed text could not be read back");
            }
        }
        Some(())
    }
}

fn no_bus(error: BusError) -> Failure {
    tracing::warn!(%error, "could not subscribe");
    Failure::new(Code::Unavailable, "the bus is not available at the moment")
}
