//! One open WebSocket of live pushes: writes what there is in one go, hears subscriptions, ends with a reason.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::{Sink, Stream, StreamExt};
use mesh_types::{Code, Problem};
use serde::Deserialize;

use super::End;
use super::cursor::LiveCursor;
use super::pushes::{Form, Pushes, Told};
use super::visitor::{Place, Visitor};
use super::wanted::Wanted;
use crate::http::problem::Failure;
use crate::state::App;

/// Pushes that are handed to the socket before it is flushed: one system call for all of them.
const BATCH: usize = 64;
/// Messages of the client that are heard before others have a turn.
const HEARD: usize = 16;
/// How long a client may take to say what it wants.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take to answer a close; one that reads slowly gets longer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
const SLOW_PATIENCE: Duration = Duration::from_secs(5);
/// Pings that may be unanswered.
const PINGS_MAX: u32 = 2;

/// A message of the client's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    subscribe: Vec<String>,
    unsubscribe: Vec<String>,
    after: Option<String>,
}

/// Until the connection ends. `after` stands in the address instead of in the first message.
pub(super) async fn serve(app: App, mut socket: WebSocket, visitor: Visitor, place: Place) {
    let end = match first(&app, &mut socket, visitor).await {
        Ok(pushes) => {
            let mut line = Line::new(socket, pushes);
            let end = poll_fn(|cx| line.poll(cx)).await;
            socket = line.socket;
            end
        }
        Err(end) => end,
    };
    if let Some(end) = end {
        close(socket, end).await;
    }
    drop(place);
}

/// Hears what the client wants and begins it. `Err(None)`: the client is gone.
async fn first(app: &App, socket: &mut WebSocket, mut visitor: Visitor) -> Result<Pushes, Option<End>> {
    let until = tokio::time::Instant::now() + FIRST_WAIT;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout_at(until, socket.recv()) => message,
            () = app.shutdown.cancelled() => return Err(Some(End::Restart)),
        };
        let text = match message {
            Err(_) => return Err(Some(End::NoSubscription)),
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Binary(_)))) => return Err(Some(End::Unsupported)),
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Err(None),
        };
        let wanted = read(&text).and_then(|said| wanted(app, &said, &visitor));
        let failure = match wanted {
            Ok((wanted, after)) => match Pushes::begin(app.clone(), visitor, wanted, after, Form::Frame).await {
                Ok(pushes) => return Ok(pushes),
                Err((_, failure)) if failure.0.status >= 500 => return Err(Some(End::Unavailable)),
                Err((back, failure)) => {
                    visitor = back;
                    failure
                }
            },
            Err(failure) => failure,
        };
        let error = serde_json::json!({"error": failure.0});
        if socket.send(Message::Text(error.to_string().into())).await.is_err() {
            return Err(None);
        }
    }
}

fn wanted(app: &App, said: &Said, visitor: &Visitor) -> Result<(Wanted, Option<LiveCursor>), Failure> {
    let topics_max = app.live.topics_max;
    let wanted = Wanted::read(said.subscribe.iter().map(String::as_str), visitor, topics_max)?;
    let after = said.after.as_deref().filter(|after| !after.is_empty());
    let after = after
        .map(|after| LiveCursor::read(after, topics_max))
        .transpose()
        .map_err(Failure)?;
    Ok((wanted, after))
}

fn read(text: &Utf8Bytes) -> Result<Said, Failure> {
    let said = mesh_types::json::parse_value(text.as_bytes()).and_then(mesh_types::json::from_value::<Said>);
    said.map_err(|problem: Problem| {
        Failure(problem).next("send {\"subscribe\":[topics],\"after\":cursor} or {\"unsubscribe\":[topics]}")
    })
}

struct Line {
    socket: WebSocket,
    pushes: Pushes,
    /// Pings, which go before pushes.
    control: VecDeque<Message>,
    /// Something was handed over and is not written yet.
    is_flushing: bool,
    pings_unanswered: u32,
}

/// How the connection ends; `None`: nobody is there any more.
type Over = Option<End>;

impl Line {
    fn new(socket: WebSocket, pushes: Pushes) -> Self {
        Self {
            socket,
            pushes,
            control: VecDeque::new(),
            is_flushing: false,
            pings_unanswered: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        if let Poll::Ready(over) = self.poll_write(cx) {
            return Poll::Ready(over);
        }
        for heard in 0..HEARD {
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Pending if heard == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => {
                    if let Some(over) = self.hear(message) {
                        return Poll::Ready(over);
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
            }
        }
        // What was heard may have brought something to say, and more may wait.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Until there is nothing to write, or no room for it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            if self.is_flushing {
                match Pin::new(&mut self.socket).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.is_flushing = false,
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending => {
                        self.pushes.is_blocked(true);
                        return self.poll_blocked(cx);
                    }
                }
                self.pushes.is_blocked(false);
            }
            for _ in 0..BATCH {
                let message = match self.control.pop_front() {
                    Some(message) => message,
                    None => match self.pushes.poll(cx, false) {
                        Poll::Pending => break,
                        Poll::Ready(Told::Send(frame)) => Message::Text(frame),
                        Poll::Ready(Told::End(end)) => return Poll::Ready(Some(end)),
                        Poll::Ready(Told::Ping) => match self.ping() {
                            Some(ping) => ping,
                            None => return Poll::Ready(Some(End::Silent)),
                        },
                    },
                };
                match Pin::new(&mut self.socket).poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending => {
                        // Taken and not to be lost; the flush below comes first.
                        self.control.push_front(message);
                        self.is_flushing = true;
                        break;
                    }
                }
                if Pin::new(&mut self.socket).start_send(message).is_err() {
                    return Poll::Ready(None);
                }
                self.is_flushing = true;
            }
            if !self.is_flushing {
                return Poll::Pending;
            }
        }
    }

    /// While nothing can be written: only its end matters.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            match self.pushes.poll(cx, true) {
                Poll::Pending | Poll::Ready(Told::Send(_)) => return Poll::Pending,
                Poll::Ready(Told::End(end)) => return Poll::Ready(Some(end)),
                Poll::Ready(Told::Ping) => match self.ping() {
                    Some(ping) => self.control.push_back(ping),
                    None => return Poll::Ready(Some(End::Silent)),
                },
            }
        }
    }

    /// `None`: too many are unanswered.
    fn ping(&mut self) -> Option<Message> {
        self.pings_unanswered += 1;
        (self.pings_unanswered <= PINGS_MAX).then(|| Message::Ping(Default::default()))
    }

    fn hear(&mut self, message: Message) -> Option<Over> {
        self.pings_unanswered = 0;
        match message {
            Message::Text(text) => {
                self.take(&text);
                None
            }
            Message::Binary(_) => Some(Some(End::Unsupported)),
            Message::Ping(_) | Message::Pong(_) => None,
            Message::Close(_) => Some(None),
        }
    }

    /// What cannot be done is said; the connection goes on.
    fn take(&mut self, text: &Utf8Bytes) {
        let done = read(text).and_then(|said| {
            self.pushes.unsubscribe(said.unsubscribe.iter().map(String::as_str))?;
            self.pushes.subscribe(said.subscribe.iter().map(String::as_str))?;
            match said.after {
                None => Ok(()),
                Some(_) => Err(Failure(
                    Problem::new(Code::InvalidRequest, "`after` belongs to the first message").field("after"),
                )),
            }
        });
        if let Err(failure) = done {
            self.pushes.say_error("", &failure);
        }
    }
}

/// Says why; whoever still reads hears it.
async fn close(mut socket: WebSocket, end: End) {
    let (code, reason) = end.close();
    let patience = if end == End::Slow {
        SLOW_PATIENCE
    } else {
        CLOSE_PATIENCE
    };
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let closing = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(patience, closing).await;
}
