//! What one tenant's readers are told: a chain of chunks that grows at its end. Each reader has its own place and reads
//! without a lock; what nobody needs any more is dropped with its chunk. No I/O.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;

use super::position::{Lane, Mark, Position};
use super::said::{Audience, Push};
use super::topic::Topic;

/// Entries of a chunk.
const CHUNK: usize = 256;
/// Entries and bytes that are kept for those who come back.
const KEPT_MAX: u64 = 4_096;
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One push as it is sent to every reader.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) lane: Lane,
    pub(crate) mark: Mark,
    pub(crate) topic: Topic,
    pub(crate) audience: Audience,
    /// `{"cursor":"…","topic":…,"event":…,"data":…}`
    pub(crate) frame: Utf8Bytes,
    event: String,
    /// Where in `frame` the cursor ends.
    cursor_end: usize,
    /// Bytes of all entries before and with this one.
    bytes: u64,
    sse: OnceLock<Utf8Bytes>,
}

/// `{"cursor":"`
const BEFORE_CURSOR: &str = "{\"cursor\":\"";

impl Entry {
    pub(crate) fn new(lane: Lane, mark: Mark, push: Push, cursor: &str) -> Self {
        let Push {
            topic,
            event,
            data,
            audience,
        } = push;
        let mut frame = String::with_capacity(256);
        frame.push_str(BEFORE_CURSOR);
        frame.push_str(cursor);
        let cursor_end = frame.len();
        let named = serde_json::json!([topic.to_string(), event]);
        frame.push_str(&format!(
            "\",\"topic\":{},\"event\":{},\"data\":{data}}}",
            named[0], named[1]
        ));
        Self {
            lane,
            mark,
            topic,
            audience,
            frame: frame.into(),
            event,
            cursor_end,
            bytes: 0,
            sse: OnceLock::new(),
        }
    }

    pub(crate) fn cursor(&self) -> &str {
        self.frame.get(BEFORE_CURSOR.len()..self.cursor_end).unwrap_or_default()
    }

    /// The frame with another cursor; cursors hold nothing that JSON escapes.
    pub(crate) fn frame_at(&self, cursor: &str) -> Utf8Bytes {
        let rest = self.frame.get(self.cursor_end..).unwrap_or_default();
        [BEFORE_CURSOR, cursor, rest].concat().into()
    }

    /// As a server-sent event, made once.
    pub(crate) fn sse(&self) -> Utf8Bytes {
        self.sse.get_or_init(|| self.sse_at(self.cursor())).clone()
    }

    /// The name is an event's, the data the whole push, which is one line.
    pub(crate) fn sse_at(&self, cursor: &str) -> Utf8Bytes {
        let frame = self.frame_at(cursor);
        format!("id: {cursor}\nevent: {}\ndata: {}\n\n", self.event, frame.as_str()).into()
    }
}

struct Chunk {
    /// Number of its first entry.
    first: u64,
    entries: [OnceLock<Entry>; CHUNK],
    next: OnceLock<Arc<Chunk>>,
}

impl Chunk {
    fn new(first: u64) -> Arc<Self> {
        Arc::new(Self {
            first,
            entries: [const { OnceLock::new() }; CHUNK],
            next: OnceLock::new(),
        })
    }
}

impl Drop for Chunk {
    /// A long chain is dropped link by link, not by recursion.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(chunk) = next {
            next = Arc::into_inner(chunk).and_then(|mut chunk| chunk.next.take());
        }
    }
}

/// The writer's end; readers share [`Counters`] and chunks.
pub(crate) struct Log {
    chunks: VecDeque<Arc<Chunk>>,
    /// What is not kept any more, or was before the log: who lacks something of it cannot be served from here.
    floor: Position,
    counters: Arc<Counters>,
}

/// How much was ever written.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Acquire)
    }
}

/// One reader's place.
pub(crate) struct Reader {
    chunk: Arc<Chunk>,
    /// Number of the next entry to read, from 0.
    next: u64,
    bytes: u64,
    counters: Arc<Counters>,
}

impl Log {
    /// Begins here.
    pub(crate) fn new(floor: Position) -> Self {
        Self {
            chunks: VecDeque::from([Chunk::new(0)]),
            floor,
            counters: Arc::default(),
        }
    }

    pub(crate) fn floor(&self) -> &Position {
        &self.floor
    }

    /// Writes at the end. Whether a chunk was finished: readers that hear of nothing should move on.
    pub(crate) fn append(&mut self, mut entry: Entry) -> bool {
        let number = self.counters.entries.load(Ordering::Relaxed);
        let bytes = self.counters.bytes.load(Ordering::Relaxed) + entry.frame.len() as u64;
        entry.bytes = bytes;
        let Some(last) = self.chunks.back() else { return false };
        let slot = usize::try_from(number - last.first).unwrap_or(usize::MAX);
        if let Some(slot) = last.entries.get(slot) {
            // Written by this writer only, each slot once.
            let _ = slot.set(entry);
        }
        let is_full = slot + 1 == CHUNK;
        if is_full {
            let next = Chunk::new(number + 1);
            let _ = last.next.set(Arc::clone(&next));
            self.chunks.push_back(next);
        }
        self.counters.bytes.store(bytes, Ordering::Relaxed);
        self.counters.entries.store(number + 1, Ordering::Release);
        if is_full {
            self.forget_oldest();
        }
        is_full
    }

    fn forget_oldest(&mut self) {
        let (entries, bytes) = (self.counters.entries(), self.counters.bytes.load(Ordering::Relaxed));
        while self.chunks.len() > 2 {
            let Some(oldest) = self.chunks.front() else { return };
            let end = oldest
                .entries
                .last()
                .and_then(OnceLock::get)
                .map_or(0, |entry| entry.bytes);
            if entries - oldest.first <= KEPT_MAX + CHUNK as u64 && bytes - end <= KEPT_BYTES_MAX {
                return;
            }
            for entry in oldest.entries.iter().filter_map(OnceLock::get) {
                self.floor.raise(entry.lane, entry.mark);
            }
            self.chunks.pop_front();
        }
    }

    /// At the end: what is written from now on.
    pub(crate) fn now(&self) -> Reader {
        let next = self.counters.entries();
        let chunk = self.chunks.back().map_or_else(|| Chunk::new(next), Arc::clone);
        Reader {
            chunk,
            next,
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            counters: Arc::clone(&self.counters),
        }
    }

    /// At the oldest that is kept.
    pub(crate) fn oldest(&self) -> Reader {
        let mut reader = self.now();
        if let Some(chunk) = self.chunks.front() {
            reader.next = chunk.first;
            reader.chunk = Arc::clone(chunk);
            let first = chunk.entries.first().and_then(OnceLock::get);
            reader.bytes = first.map_or(reader.bytes, |entry| entry.bytes - entry.frame.len() as u64);
        }
        reader
    }
}

impl Reader {
    /// The next entry, if there is one.
    pub(crate) fn read(&mut self) -> Option<&Entry> {
        let mut slot = usize::try_from(self.next - self.chunk.first).unwrap_or(usize::MAX);
        if slot >= CHUNK {
            let next = self.chunk.next.get()?;
            // Until there is something in it, the last entry is to stay at hand.
            next.entries.first()?.get()?;
            self.chunk = Arc::clone(next);
            slot = 0;
        }
        let entry = self.chunk.entries.get(slot)?.get()?;
        self.next += 1;
        self.bytes = entry.bytes;
        Some(entry)
    }

    /// The entry before its place, if it is at hand.
    pub(crate) fn last(&self) -> Option<&Entry> {
        let slot = self.next.checked_sub(self.chunk.first + 1)?;
        self.chunk.entries.get(usize::try_from(slot).ok()?)?.get()
    }

    /// Number of the next entry.
    pub(crate) fn number(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.next == self.counters.entries()
    }

    /// Entries and bytes that wait for this reader, of whatever topic.
    pub(crate) fn lag(&self) -> (u64, u64) {
        let entries = self.counters.entries().saturating_sub(self.next);
        (
            entries,
            self.counters.bytes.load(Ordering::Relaxed).saturating_sub(self.bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::position::Origin;
    use super::*;
    use serde_json::json;

    fn entry(at: u64) -> Entry {
        let push = Push {
            topic: Topic::Agents,
            event: "agent.created".into(),
            data: json!({"agent": "sofia"}),
            audience: Audience::Tenant,
        };
        Entry::new(Lane::Events, Mark::whole(at), push, "c1")
    }

    fn log() -> Log {
        Log::new(Position::new(Origin::of("f"), Origin::of("s")))
    }

    #[test]
    fn an_entry_is_one_text_for_all_and_takes_another_cursor() {
        let entry = entry(7);
        let said = r#","topic":"agents","event":"agent.created","data":{"agent":"sofia"}}"#;
        assert_eq!(entry.frame.as_str(), format!(r#"{{"cursor":"c1"{said}"#));
        assert_eq!(entry.frame_at("x~y").as_str(), format!(r#"{{"cursor":"x~y"{said}"#));
        let sse = format!("id: c1\nevent: agent.created\ndata: {{\"cursor\":\"c1\"{said}\n\n");
        assert_eq!(entry.sse().as_str(), sse);
        assert_eq!(
            entry.sse().as_str().as_ptr(),
            entry.sse().as_str().as_ptr(),
            "made once"
        );
    }

    #[test]
    fn readers_read_all_from_their_place_on_and_the_oldest_goes() {
        let mut log = log();
        let mut first = log.now();
        assert!(first.read().is_none() && first.is_at_end());
        let count = KEPT_MAX * 3;
        for at in 0..count {
            log.append(entry(at));
        }
        assert_eq!(first.lag().0, count);
        let mut seen = 0;
        while let Some(entry) = first.read() {
            assert_eq!(entry.mark, Mark::whole(seen));
            seen += 1;
        }
        assert_eq!((seen, first.lag()), (count, (0, 0)));
        let mut oldest = log.oldest();
        let kept = oldest.lag().0;
        assert!((KEPT_MAX..=KEPT_MAX + 2 * CHUNK as u64).contains(&kept), "{kept}");
        let mark = oldest.read().unwrap().mark;
        assert_eq!(log.floor().events, Mark::whole(mark.done() - 1), "all before it");
    }

    #[test]
    fn the_entry_before_a_readers_place_is_at_hand_also_between_two_chunks() {
        let mut log = log();
        let mut reader = log.now();
        for at in 0..=CHUNK as u64 {
            log.append(entry(at));
            assert!(reader.read().is_some());
            assert!(reader.read().is_none(), "it has all");
            assert_eq!(reader.last().map(|last| last.mark), Some(Mark::whole(at)));
        }
    }

    #[test]
    fn large_entries_are_kept_by_their_bytes() {
        let mut log = log();
        let push = |at| {
            let mut one = entry(at);
            one.frame = "x".repeat(1024 * 1024).into();
            one
        };
        for at in 0..600 {
            log.append(push(at));
        }
        assert!(log.oldest().lag().0 <= 2 * CHUNK as u64);
    }
}
