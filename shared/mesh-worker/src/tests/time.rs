//! Time that moves only when everybody waits, and the words that the tests share.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mesh_api::knowledge::{Citation, KnowledgeHit};
use mesh_api::memory::{Hit, Memory, MemoryType, Scope, Scores};
use mesh_api::messaging::{Author, AuthorKind, Message};
use mesh_types::{AgentName, Clock, Id, InvocationId, MemoryId, Timestamp};

pub(super) const START: Timestamp = Timestamp::from_millis(1_795_258_800_000);

/// Time that moves to the next timer when nobody can go on.
#[derive(Default)]
pub(super) struct Time {
    now: Mutex<Duration>,
    timers: Mutex<Vec<(Duration, Waker)>>,
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        START.plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.now.lock().unwrap()
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Time {
    pub(super) fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        let until = self.monotonic() + duration;
        std::future::poll_fn(move |context| {
            if self.monotonic() >= until {
                return Poll::Ready(());
            }
            self.timers.lock().unwrap().push((until, context.waker().clone()));
            Poll::Pending
        })
    }

    pub(super) fn pass(&self, duration: Duration) {
        *self.now.lock().unwrap() += duration;
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        loop {
            woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            if woken.0.load(Ordering::Relaxed) {
                continue;
            }
            let mut timers = self.timers.lock().unwrap();
            let next = timers.iter().map(|(until, _)| *until).min();
            let next = next.expect("everybody waits and no timer runs");
            let mut now = self.now.lock().unwrap();
            *now = next.max(*now);
            timers.retain(|(until, waker)| {
                if *until <= *now {
                    waker.wake_by_ref();
                }
                *until > *now
            });
        }
    }
}

pub(super) fn agent() -> AgentName {
    "sofia".parse().unwrap()
}

pub(super) fn invocation() -> InvocationId {
    InvocationId::new(START, 42)
}

pub(super) fn message(id: &str, kind: AuthorKind, author: &str, text: &str, at: Timestamp) -> Message {
    Message {
        id: id.parse().unwrap(),
        channel_id: "c1".parse().unwrap(),
        author: Author {
            kind,
            id: author.into(),
        },
        text: text.into(),
        content: None,
        metadata: serde_json::Map::new(),
        created_at: at,
    }
}

pub(super) fn remembered(content: &str, number: u32) -> Hit {
    let memory = Memory {
        id: MemoryId::new(START, u128::from(number)),
        agent: agent(),
        kind: MemoryType::Episodic,
        content: content.into(),
        tags: Vec::new(),
        importance: 0.5,
        source: None,
        metadata: serde_json::Map::new(),
        embedded: true,
        scope: Scope::Agent,
        session: None,
        user: None,
        version: 1,
        seen: 1,
        superseded_by: None,
        expires_at: None,
        created_at: START,
        updated_at: START,
    };
    Hit {
        memory,
        score: 0.1 + 0.2,
        scores: Scores {
            vector: Some(1.0 / 3.0),
            text: None,
            ..Scores::default()
        },
    }
}

/// Of the document `<base>.md`.
pub(super) fn passage(base: &str, text: &str) -> KnowledgeHit {
    KnowledgeHit {
        text: text.to_owned(),
        citation: Citation {
            document: mesh_types::DocumentId::from_u128(5),
            base: base.parse().unwrap(),
            name: format!("{base}.md"),
            version: 1,
            url: None,
            headings: vec!["Refunds".into(), "Late trains".into()],
            start: 0,
            end: 25,
        },
        score: 0.5,
        scores: Scores::default(),
    }
}
