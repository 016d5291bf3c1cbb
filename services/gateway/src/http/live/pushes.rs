//! What one connection is sent next, whatever carries it: what it lacks, then what is new, and what happens to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use futures::future::BoxFuture;
use mesh_types::{Code, InvocationId, Problem};
use serde_json::{Value, json};

use super::End;
use super::cursor::LiveCursor;
use super::follow::Follow;
use super::reading::{Reading, read_on};
use super::visitor::Visitor;
use super::wanted::Wanted;
use crate::feed::Cursor;
use crate::http::problem::Failure;
use crate::hub::{Flag, Joined, Page, Replayed, Seat, Topic};
use crate::state::App;

/// Pause after what a reader lacks could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// A cursor is told at every so-manieth ping, so that one who heard nothing for long need not go back far.
const PINGS_PER_CURSOR: u32 = 3;

/// How pushes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Frame,
    Sse,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Told {
    Send(Utf8Bytes),
    /// Ask whether the other end is there.
    Ping,
    End(End),
}

pub(super) struct Pushes {
    app: App,
    seat: Seat,
    visitor: Visitor,
    form: Form,
    /// Said before pushes.
    said: VecDeque<Utf8Bytes>,
    reading: Option<Reading>,
    replayed: VecDeque<Replayed>,
    follows: Vec<Follow>,
    /// Where each invocation is that is, or was, followed.
    inside: BTreeMap<InvocationId, Cursor>,
    looking: Option<BoxFuture<'static, bool>>,
    pings: u32,
    /// To be told where it stands, once it has read all there is.
    is_cursor_due: bool,
    /// Entries and bytes that waited when it was last found to be too far behind.
    lag: Option<(u64, u64)>,
}

impl Pushes {
    /// Takes a place. Fails as `Hub::join` does, and then gives the visitor back.
    pub(super) async fn begin(
        app: App,
        visitor: Visitor,
        wanted: Wanted,
        after: Option<LiveCursor>,
        form: Form,
    ) -> Result<Self, (Visitor, Failure)> {
        let after = after.unwrap_or_default();
        let mut topics = wanted.topics;
        topics.sort_by_key(ToString::to_string);
        topics.dedup();
        let joined = app.hub.join(visitor.caller.clone(), topics, after.position.as_ref());
        let Joined { seat, replay, reset } = match joined.await {
            Ok(joined) => joined,
            Err(failure) => return Err((visitor, failure)),
        };
        let mut pushes = Self {
            app,
            seat,
            visitor,
            form,
            said: VecDeque::new(),
            reading: replay.map(read_on),
            replayed: VecDeque::new(),
            follows: Vec::new(),
            inside: after.inside,
            looking: None,
            pings: 0,
            is_cursor_due: false,
            lag: None,
        };
        if pushes.app.shutdown.is_cancelled() {
            // It came when the others were told already.
            pushes.seat.handle().tell(Flag::STOP);
        }
        // Of those that are followed no more a cursor would only grow.
        let followed = &wanted.invocations;
        pushes
            .inside
            .retain(|id, _| followed.iter().any(|(wanted, _)| wanted == id));
        if !pushes.inside.is_empty() {
            pushes.note_inside();
        }
        if let Some(reason) = reset {
            pushes.say_reset(reason);
        }
        for (id, after) in wanted.invocations {
            pushes.follow(id, after);
        }
        Ok(pushes)
    }

    pub(super) fn is_blocked(&self, is_blocked: bool) {
        self.seat.handle().is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// What comes next. While the connection takes nothing (`is_blocked`), only its end does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_blocked: bool) -> Poll<Told> {
        // Before the looks: what comes between wakes again.
        self.seat.handle().waker.register(cx.waker());
        if let Some(told) = self.poll_flags(cx, is_blocked) {
            return Poll::Ready(told);
        }
        if is_blocked {
            return Poll::Pending;
        }
        match self.poll_pushes(cx) {
            Some(frame) => Poll::Ready(Told::Send(frame)),
            None => Poll::Pending,
        }
    }

    fn poll_flags(&mut self, cx: &mut Context<'_>, is_blocked: bool) -> Option<Told> {
        let flags = self.seat.handle().take_flags();
        if flags.has(Flag::STOP) {
            return Some(Told::End(End::Restart));
        }
        if is_blocked && flags.has(Flag::BEHIND) && self.is_too_slow() {
            return Some(Told::End(End::Slow));
        }
        if flags.has(Flag::RESET) {
            (self.reading, self.replayed) = (None, VecDeque::new());
            if self.seat.restart().is_none() {
                return Some(Told::End(End::Unavailable));
            }
            self.say_reset("another_feed");
        }
        if flags.has(Flag::CHECK) && self.looking.is_none() {
            self.looking = self.visitor.look(&self.app);
        }
        if let Some(looking) = &mut self.looking
            && let Poll::Ready(is_good) = looking.as_mut().poll(cx)
        {
            self.looking = None;
            if !is_good {
                return Some(Told::End(End::Unauthorized));
            }
        }
        if !flags.has(Flag::PING) {
            return None;
        }
        self.pings += 1;
        self.is_cursor_due |= self.pings.is_multiple_of(PINGS_PER_CURSOR);
        Some(Told::Ping)
    }

    /// Too much waits, and it was no more a second before: who has come back reads much at first, and gains on it.
    fn is_too_slow(&mut self) -> bool {
        let live = &self.app.live;
        let lag = self.seat.behind(live.behind_max, live.behind_bytes_max);
        let before = std::mem::replace(&mut self.lag, lag);
        matches!((before, lag), (Some(before), Some(now)) if now.0 >= before.0 && now.1 >= before.1)
    }

    fn poll_pushes(&mut self, cx: &mut Context<'_>) -> Option<Utf8Bytes> {
        if let Some(said) = self.said.pop_front() {
            return Some(said);
        }
        if let Some(frame) = self.poll_follows(cx) {
            return Some(frame);
        }
        if let Some(frame) = self.poll_replay(cx) {
            return Some(frame);
        }
        // A reset that the replay brought comes before the word that all is told.
        if self.reading.is_some() || !self.said.is_empty() {
            return self.said.pop_front();
        }
        // Before what comes after it: cursors only grow.
        if let Some(cursor) = self.seat.caught_up() {
            return Some(self.live(&cursor));
        }
        let push = match self.form {
            Form::Frame => self.seat.next_frame(),
            Form::Sse => self.seat.next_sse(),
        };
        push.or_else(|| self.at_end())
    }

    /// What is to be said once nothing is left to read. That everything on the way was known, or of other topics, is
    /// nothing to be woken for: were the end not looked for again here, `live` would wait for the next ping.
    fn at_end(&mut self) -> Option<Utf8Bytes> {
        let cursor = match self.seat.caught_up() {
            Some(cursor) => cursor,
            None if self.is_cursor_due => self.seat.here()?,
            None => return None,
        };
        self.is_cursor_due = false;
        Some(self.live(&cursor))
    }

    fn poll_replay(&mut self, cx: &mut Context<'_>) -> Option<Utf8Bytes> {
        loop {
            while let Some(replayed) = self.replayed.pop_front() {
                match replayed {
                    Replayed::Passed(lane, mark) => self.seat.pass(lane, mark),
                    Replayed::Push(lane, mark, push) => {
                        if let Some(entry) = self.seat.told_before(lane, mark, push) {
                            return Some(match self.form {
                                Form::Frame => entry.frame,
                                Form::Sse => entry.sse(),
                            });
                        }
                    }
                }
            }
            let Poll::Ready((replay, page)) = self.reading.as_mut()?.as_mut().poll(cx) else {
                return None;
            };
            self.reading = match page {
                Ok(Page::Some(replayed)) => {
                    self.replayed = replayed.into();
                    Some(read_on(replay))
                }
                Ok(Page::End) => None,
                Ok(Page::Lost(reason)) => {
                    self.seat.give_up();
                    self.say_reset(reason);
                    None
                }
                Err(problem) => {
                    tracing::debug!(%problem, "what a reader lacks cannot be read; trying again");
                    Some(Box::pin(async move {
                        tokio::time::sleep(RETRY).await;
                        read_on(replay).await
                    }))
                }
            };
        }
    }

    fn poll_follows(&mut self, cx: &mut Context<'_>) -> Option<Utf8Bytes> {
        let mut place = 0;
        while let Some(follow) = self.follows.get_mut(place) {
            match follow.events.as_mut().poll_next(cx) {
                Poll::Pending => place += 1,
                Poll::Ready(None) => {
                    // Its cursor stays: who comes back has all of it.
                    self.follows.swap_remove(place);
                }
                Poll::Ready(Some(Ok(event))) => {
                    let id = follow.id;
                    self.inside.insert(id, event.cursor);
                    self.note_inside();
                    let topic = Topic::Invocation(id);
                    return Some(self.written(event.name, |cursor| {
                        json!({"cursor": cursor, "topic": topic.to_string(), "event": event.name, "data": event.data})
                    }));
                }
                Poll::Ready(Some(Err(Failure(problem)))) => {
                    let id = follow.id;
                    self.follows.swap_remove(place);
                    return Some(self.error(&Topic::Invocation(id).to_string(), &problem));
                }
            }
        }
        None
    }

    fn note_inside(&mut self) {
        let cursor = LiveCursor {
            position: None,
            inside: self.inside.clone(),
        };
        self.seat.set_suffix(cursor.suffix());
    }

    fn follow(&mut self, id: InvocationId, after: Option<Cursor>) {
        if self.follows.iter().any(|follow| follow.id == id) {
            return;
        }
        let known = self.inside.get(&id).cloned();
        let after = after.or(known).unwrap_or_default();
        self.follows
            .push(Follow::new(&self.app, &self.visitor.caller, id, after));
    }

    /// Adds topics, from now on, and says so: who reads after that misses nothing in between.
    pub(super) fn subscribe<'a>(&mut self, names: impl IntoIterator<Item = &'a str> + Clone) -> Result<(), Failure> {
        let topics_max = self.app.live.topics_max;
        let topics_of = |name: &'a str| name.split_once('@').map_or(name, |(topic, _)| topic);
        let subscribed: Vec<&str> = names.clone().into_iter().map(topics_of).collect();
        let wanted = Wanted::read(names, &self.visitor, topics_max)?;
        let (topics, followed) = (self.seat.topics().len(), self.follows.len().max(self.inside.len()));
        if topics + followed + wanted.topics.len() + wanted.invocations.len() > topics_max {
            let detail = format!("a connection has {topics_max} topics at most");
            return Err(Failure::invalid("topics", detail).next("unsubscribe some, or open another connection"));
        }
        wanted.topics.into_iter().for_each(|topic| self.seat.subscribe(topic));
        for (id, after) in wanted.invocations {
            self.follow(id, after);
        }
        if !subscribed.is_empty() {
            let done = self.written(
                "subscribed",
                |cursor| json!({"subscribed": subscribed, "cursor": cursor}),
            );
            self.said.push_back(done);
        }
        Ok(())
    }

    pub(super) fn unsubscribe<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<(), Failure> {
        for name in names {
            match name.parse().map_err(Failure)? {
                Topic::Invocation(id) => {
                    self.follows.retain(|follow| follow.id != id);
                    if self.inside.remove(&id).is_some() {
                        self.note_inside();
                    }
                }
                topic => self.seat.unsubscribe(&topic),
            }
        }
        Ok(())
    }

    /// Tells what of a message could not be done; the connection goes on.
    pub(super) fn say_error(&mut self, about: &str, Failure(problem): &Failure) {
        let error = self.error(about, problem);
        self.said.push_back(error);
    }

    fn error(&self, about: &str, problem: &Problem) -> Utf8Bytes {
        let mut problem = problem.clone();
        if problem.status >= 500 && !problem.is(Code::Busy) {
            problem.detail = "that is not available at the moment".to_owned();
        }
        // A topic of one invocation is opened after its subscription, and may be asked for again where that failed.
        let data = json!({"error": problem, "topic": about, "retry": !about.is_empty() && problem.is_transient()});
        match self.form {
            Form::Frame => data.to_string().into(),
            // Without an id: it moves nobody on.
            Form::Sse => format!("event: error\ndata: {data}\n\n").into(),
        }
    }

    fn live(&self, cursor: &str) -> Utf8Bytes {
        self.written("live", |_| json!({"live": true, "cursor": cursor}))
    }

    fn say_reset(&mut self, reason: &str) {
        let reset = self.written("reset", |cursor| json!({"reset": {"reason": reason}, "cursor": cursor}));
        self.said.push_back(reset);
    }

    /// With the cursor as it is now; only where that is not behind what was sent.
    fn written(&self, event: &str, data: impl FnOnce(&str) -> Value) -> Utf8Bytes {
        let cursor = self.seat.own_cursor();
        let data = data(&cursor);
        match self.form {
            Form::Frame => data.to_string().into(),
            Form::Sse => format!("id: {cursor}\nevent: {event}\ndata: {data}\n\n").into(),
        }
    }
}
