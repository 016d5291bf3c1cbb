//! The last frames of one tunnel, numbered: every reader has its own place in them, so a slow one costs no memory and
//! one that comes back goes on where it was. No I/O.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use mesh_api::tunnel::{Frame, Sealed};
use mesh_types::Token;
use tokio::sync::watch;

use super::end::Ended;

/// One frame as clients get it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// From 1.
    pub(crate) number: u64,
    /// `opened`, `message`, `token`, `done`, `failed` or `close`.
    pub(crate) name: &'static str,
    /// A [`Sealed`] whose `seq` is the number.
    pub(crate) json: Utf8Bytes,
}

/// What follows a place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    Entry(Entry),
    /// What follows is not kept any more up to here.
    Lost {
        up_to: u64,
    },
    /// Nothing yet.
    Nothing,
    /// All of it is told.
    Over(Ended),
}

pub(crate) struct Log {
    tunnel: Token,
    frames_max: usize,
    bytes_max: usize,
    kept: Mutex<Kept>,
    grew: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    /// Number of the newest entry.
    last: u64,
    bytes: usize,
    entries: VecDeque<Entry>,
    ended: Option<Ended>,
}

impl Log {
    pub(crate) fn new(tunnel: Token, frames_max: usize, bytes_max: usize) -> Self {
        Self {
            tunnel,
            frames_max,
            bytes_max,
            kept: Mutex::default(),
            grew: watch::channel(0).0,
        }
    }

    /// Adds a frame; the oldest go where there is no room. After the end nothing is added.
    pub(crate) fn push(&self, frame: Frame) {
        self.add(frame, None);
    }

    /// The last frame is the reason.
    pub(crate) fn end(&self, ended: Ended) {
        let reason = ended.reason().to_owned();
        self.add(Frame::Close { reason }, Some(ended));
    }

    fn add(&self, frame: Frame, ended: Option<Ended>) {
        let mut kept = self.kept();
        if kept.ended.is_some() {
            return;
        }
        kept.last += 1;
        let name = name_of(&frame);
        let sealed = Sealed {
            tunnel: self.tunnel.clone(),
            seq: kept.last,
            frame,
        };
        let json: Utf8Bytes = serde_json::to_string(&sealed).expect("a frame is plain data").into();
        kept.bytes += json.len();
        let number = kept.last;
        kept.entries.push_back(Entry { number, name, json });
        kept.ended = ended;
        while kept.entries.len() > self.frames_max || (kept.bytes > self.bytes_max && kept.entries.len() > 1) {
            let oldest = kept.entries.pop_front();
            kept.bytes -= oldest.map_or(0, |oldest| oldest.json.len());
        }
        drop(kept);
        self.grew.send_replace(number);
    }

    /// What comes after the entry of a number; 0 is before the first.
    pub(crate) fn after(&self, number: u64) -> Next {
        let kept = self.kept();
        let Some(first) = kept.entries.front().map(|entry| entry.number) else {
            return Next::Nothing;
        };
        if number + 1 < first {
            return Next::Lost { up_to: first - 1 };
        }
        let place = usize::try_from(number + 1 - first).unwrap_or(usize::MAX);
        match (kept.entries.get(place), &kept.ended) {
            (Some(entry), _) => Next::Entry(entry.clone()),
            (None, Some(ended)) => Next::Over(ended.clone()),
            (None, None) => Next::Nothing,
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.kept().last
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.kept().ended.clone()
    }

    /// Rings at every frame.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.grew.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place.
pub(crate) struct Reader {
    log: Arc<Log>,
    bell: watch::Receiver<u64>,
    /// Number of the entry that was told last.
    pub(crate) told: u64,
}

impl Reader {
    pub(crate) fn new(log: Arc<Log>, told: u64) -> Self {
        let bell = log.bell();
        Self { log, bell, told }
    }

    /// Waits for what follows; never [`Next::Nothing`]. Dropped while it waits, it has moved nothing.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            // Before the look: what comes between the two rings again.
            self.bell.mark_unchanged();
            let next = self.log.after(self.told);
            match &next {
                Next::Entry(entry) => self.told = entry.number,
                Next::Lost { up_to } => self.told = *up_to,
                Next::Over(_) => {}
                Next::Nothing => {
                    // The log lives as long as this reader.
                    let _ = self.bell.changed().await;
                    continue;
                }
            }
            return next;
        }
    }
}

fn name_of(frame: &Frame) -> &'static str {
    match frame {
        Frame::Open { .. } => "open",
        Frame::Opened { .. } => "opened",
        Frame::Message { .. } => "message",
        Frame::Token { .. } => "token",
        Frame::Done { .. } => "done",
        Frame::Failed { .. } => "failed",
        Frame::Ping => "ping",
        Frame::Close { .. } => "close",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(text: &str) -> Frame {
        Frame::Token {
            id: "x".into(),
            text: text.into(),
        }
    }

    fn log(frames_max: usize, bytes_max: usize) -> Arc<Log> {
        Arc::new(Log::new("tun_1".parse().unwrap(), frames_max, bytes_max))
    }

    #[tokio::test]
    async fn readers_go_on_where_they_were_and_hear_the_end() {
        let log = log(10, 10_000);
        log.push(Frame::Opened { incarnation: 3 });
        log.push(token("a"));
        let (mut fresh, mut back) = (Reader::new(Arc::clone(&log), 0), Reader::new(Arc::clone(&log), 1));
        let Next::Entry(first) = fresh.next().await else {
            panic!("the first frame")
        };
        assert_eq!((first.number, first.name), (1, "opened"));
        assert_eq!(
            first.json.as_str(),
            r#"{"tunnel":"tun_1","seq":1,"frame":"opened","incarnation":3}"#
        );
        assert!(matches!(back.next().await, Next::Entry(entry) if entry.number == 2 && entry.name == "token"));
        log.end(Ended::Silent);
        log.push(token("late"));
        assert!(matches!(back.next().await, Next::Entry(entry) if entry.json.contains("the node went silent")));
        assert_eq!(back.next().await, Next::Over(Ended::Silent));
        assert_eq!(log.last(), 3);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let log = log(10, 10_000);
        let mut reader = Reader::new(Arc::clone(&log), 0);
        let (next, ()) = tokio::join!(reader.next(), async {
            tokio::task::yield_now().await;
            log.push(token("a"));
        });
        assert!(matches!(next, Next::Entry(_)));
    }

    #[test]
    fn the_newest_frame_is_kept_whatever_its_size() {
        let log = log(10, 100);
        log.push(token(&"x".repeat(1_000)));
        log.push(token(&"y".repeat(1_000)));
        assert_eq!(log.after(0), Next::Lost { up_to: 1 });
        assert!(matches!(log.after(1), Next::Entry(entry) if entry.number == 2));
    }

    proptest! {
        /// However long the log and wherever a reader is: what it is told and what it is told to have lost are, one
        /// after the other, every number once.
        #[test]
        fn nothing_is_told_twice_and_every_loss_is_told(frames_max in 1_usize..6, turns in prop::collection::vec(0_u8..4, 1..60)) {
            let log = log(frames_max, 1_000_000);
            let mut told = 0;
            for turn in turns {
                if turn < 3 {
                    log.push(token("x"));
                }
                match log.after(told) {
                    Next::Entry(entry) => {
                        prop_assert_eq!(entry.number, told + 1);
                        told = entry.number;
                    }
                    Next::Lost { up_to } => {
                        prop_assert!(up_to > told);
                        told = up_to;
                    }
                    Next::Nothing => prop_assert_eq!(told, log.last()),
                    Next::Over(_) => prop_assert!(false, "it has not ended"),
                }
            }
        }
    }
}
