//! One reader's place among its tenant's pushes: what it wants, what it has, and the cursor that says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::ws::Utf8Bytes;
use mesh_api::Caller;

use super::Hub;
use super::log::{Entry, Reader};
use super::position::{Lane, Mark, Position};
use super::replay::Replay;
pub(crate) use super::rooms::Flag;
use super::rooms::Handle;
use super::said::Push;
use super::topic::Topic;

/// A place, and what comes before it is told.
pub(crate) struct Joined {
    pub(crate) seat: Seat,
    /// What is to be told first, from the feed and EVENTS.
    pub(crate) replay: Option<Replay>,
    /// The cursor cannot be continued, in one word why.
    pub(crate) reset: Option<&'static str>,
}

pub(crate) struct Seat {
    hub: Hub,
    handle: Arc<Handle>,
    caller: Caller,
    topics: Vec<Topic>,
    reader: Reader,
    /// Where it stands, if it is not where the log's own cursors say: it came back, or its cursors say more.
    own: Option<Position>,
    /// What its cursors say besides; then every push is written for it alone.
    suffix: String,
    /// Where the log ended when it came, as an entry's number and a position.
    end: (u64, Position),
}

/// `None` while the ingest does not run.
pub(super) fn join(hub: &Hub, id: u64, caller: &Caller, topics: &[Topic], after: Option<&Position>) -> Option<Joined> {
    let mut rooms = hub.rooms();
    let (room, position) = rooms.enter(&caller.tenant)?;
    let handle = Handle::new(id);
    room.seat(&handle);
    topics.iter().for_each(|topic| room.subscribe(&handle, topic));
    let log = &room.log;
    let mut reader = log.now();
    let end = (reader.number(), position.clone());
    let (mut own, mut missing, mut reset) = (None, None, None);
    match after.map(|after| after.for_topics(&position, topics)) {
        None => {}
        Some(None) => reset = Some("another_feed"),
        Some(Some(after)) if after.covers(log.floor()) => {
            reader = log.oldest();
            own = Some(after);
        }
        Some(Some(after)) => {
            missing = Some((after.clone(), position.clone()));
            own = Some(after);
        }
    }
    drop(rooms);
    handle.at.store(reader.number(), Ordering::Relaxed);
    let seat = Seat {
        hub: hub.clone(),
        handle,
        caller: caller.clone(),
        topics: topics.to_vec(),
        reader,
        own,
        suffix: String::new(),
        end,
    };
    let replay = missing.map(|(from, to)| Replay::new(hub, caller, topics, from, to));
    Some(Joined { seat, replay, reset })
}

impl Position {
    /// As it counts for these topics: where none of a lane's is wanted, it is here. `None` if it is of another feed.
    fn for_topics(&self, here: &Self, topics: &[Topic]) -> Option<Self> {
        let mut position = self.clone();
        (position.feed, position.stream) = (here.feed, here.stream);
        if topics.iter().any(Topic::is_of_shards) {
            (self.feed == here.feed).then_some(())?;
        } else {
            position.shards = here.shards;
        }
        if topics.iter().any(Topic::is_of_events) {
            (self.stream == here.stream).then_some(())?;
        } else {
            position.events = here.events;
        }
        Some(position)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub
            .rooms()
            .leave(&self.caller.tenant, self.handle.id, &self.topics);
    }
}

impl Seat {
    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The next push as a WebSocket's text; most often one that all readers share.
    pub(crate) fn next_frame(&mut self) -> Option<Utf8Bytes> {
        self.next(|entry| entry.frame.clone(), Entry::frame_at)
    }

    /// The next push as a server-sent event.
    pub(crate) fn next_sse(&mut self) -> Option<Utf8Bytes> {
        self.next(Entry::sse, Entry::sse_at)
    }

    fn next<T>(&mut self, shared: fn(&Entry) -> T, written: fn(&Entry, &str) -> T) -> Option<T> {
        let found = loop {
            let Some(entry) = self.reader.read() else { break None };
            if let Some(own) = &mut self.own {
                if entry.mark <= own.mark(entry.lane) {
                    continue;
                }
                own.raise(entry.lane, entry.mark);
            }
            if !self.topics.contains(&entry.topic) || !entry.audience.has(&self.caller) {
                continue;
            }
            break Some(match &self.own {
                None => shared(entry),
                Some(own) => written(entry, &cursor_text(own, &self.suffix)),
            });
        };
        self.handle.at.store(self.reader.number(), Ordering::Relaxed);
        found
    }

    /// Once, when all that was there when it came is told: the cursor of that place. To be asked before each push.
    pub(crate) fn caught_up(&mut self) -> Option<String> {
        if self.reader.number() < self.end.0 {
            return None;
        }
        // Nothing is ever numbered so: it is told once.
        self.end.0 = u64::MAX;
        let end = self.end.1.clone();
        self.settle(end);
        Some(self.cursor())
    }

    /// All up to there is told, whatever its own marks say.
    fn settle(&mut self, end: Position) {
        match &mut self.own {
            Some(own) => {
                own.raise_all(&end);
                if self.suffix.is_empty() && end.covers(own) {
                    self.own = None;
                }
                self.end.1 = end;
            }
            None => self.end.1 = end,
        }
    }

    /// Where it stands, if it has read all there is; later than any cursor that it was sent.
    pub(crate) fn here(&mut self) -> Option<String> {
        let position = self.hub.rooms().position.clone()?;
        // The position was read first: all up to it stands in the log.
        if !self.reader.is_at_end() || self.end.0 != u64::MAX {
            return None;
        }
        self.settle(position);
        Some(self.cursor())
    }

    fn cursor(&self) -> String {
        cursor_text(&self.place(), &self.suffix)
    }

    /// What its last cursor said, or the place it came to.
    fn place(&self) -> Position {
        if let Some(own) = &self.own {
            return own.clone();
        }
        let mut place = self.end.1.clone();
        if let Some(last) = self.reader.last().and_then(|entry| entry.cursor().parse().ok()) {
            place.raise_all(&last);
        }
        place
    }

    /// What its cursors say besides, from now on.
    pub(crate) fn set_suffix(&mut self, suffix: String) {
        if self.own.is_none() {
            self.own = Some(self.place());
        }
        self.suffix = suffix;
    }

    /// Its cursor between two pushes, for one that has its own cursor in the suffix.
    pub(crate) fn own_cursor(&self) -> String {
        self.cursor()
    }

    /// A push from before its place, if it is for this reader and not told.
    pub(crate) fn told_before(&mut self, lane: Lane, mark: Mark, push: Push) -> Option<Entry> {
        let own = self.own.get_or_insert_with(|| self.end.1.clone());
        if mark <= own.mark(lane) {
            return None;
        }
        own.raise(lane, mark);
        if !self.topics.contains(&push.topic) || !push.audience.has(&self.caller) {
            return None;
        }
        let cursor = cursor_text(own, &self.suffix);
        Some(Entry::new(lane, mark, push, &cursor))
    }

    /// All of a lane up to there is told.
    pub(crate) fn pass(&mut self, lane: Lane, mark: Mark) {
        if let Some(own) = &mut self.own {
            own.raise(lane, mark);
        }
    }

    /// What it lacks cannot be had: it goes on from where the log was when it came.
    pub(crate) fn give_up(&mut self) {
        let end = self.end.1.clone();
        if let Some(own) = &mut self.own {
            own.raise_all(&end);
        }
    }

    /// From now on of this topic, too.
    pub(crate) fn subscribe(&mut self, topic: Topic) {
        if self.topics.contains(&topic) {
            return;
        }
        let mut rooms = self.hub.rooms();
        if let Some(room) = rooms.room(&self.caller.tenant) {
            room.subscribe(&self.handle, &topic);
        }
        drop(rooms);
        self.topics.push(topic);
    }

    pub(crate) fn unsubscribe(&mut self, topic: &Topic) {
        let mut rooms = self.hub.rooms();
        if let Some(room) = rooms.room(&self.caller.tenant) {
            room.unsubscribe(self.handle.id, topic);
        }
        drop(rooms);
        self.topics.retain(|one| one != topic);
    }

    /// The order began anew: from its start on. `None` if the hub is closed.
    pub(crate) fn restart(&mut self) -> Option<String> {
        let mut rooms = self.hub.rooms();
        let (room, position) = rooms.enter(&self.caller.tenant)?;
        self.reader = room.log.oldest();
        drop(rooms);
        // All that is before is told by the reset.
        self.end = (self.reader.number(), position.clone());
        if self.own.is_some() {
            self.own = Some(position);
        }
        Some(self.cursor())
    }

    /// Entries and bytes that its peer lets wait, if they are more than that.
    pub(crate) fn behind(&self, entries_max: u64, bytes_max: u64) -> Option<(u64, u64)> {
        let lag = self.reader.lag();
        (lag.0 > entries_max || lag.1 > bytes_max).then_some(lag)
    }
}

fn cursor_text(position: &Position, suffix: &str) -> String {
    let mut text = position.to_string();
    text.push_str(suffix);
    text
}
