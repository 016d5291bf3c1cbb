//! Calls by their idempotency key: a repeat joins the call that runs, or is told what it answered a moment ago, so that
//! no model is paid twice. A call runs as long as one of those who joined it is there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_types::{Code, Problem, Tenant};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Limits;
use mesh_models::Chunks;

/// Answers that are kept for repeats hold at most so much text, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Calls without an answer whose tries are remembered; the oldest gives way.
const UNANSWERED_MAX: usize = 16_384;

type Work = BoxFuture<'static, Result<Completion, Problem>>;

/// What one call has streamed since its newest attempt began.
#[derive(Debug, Default)]
struct Log {
    attempt: u32,
    texts: Vec<String>,
    /// How many have joined it.
    joined: usize,
}

/// Where the one who works on a call writes its chunks.
#[derive(Debug)]
pub(crate) struct Recorder {
    log: watch::Sender<Log>,
    tries_before: u32,
}

impl Recorder {
    /// Tries of earlier calls with this key that ended without an answer: they were paid for too, so that the tries of
    /// this one are counted on from there.
    pub(crate) fn tries_before(&self) -> u32 {
        self.tries_before
    }
}

impl Chunks for Recorder {
    async fn send(&mut self, chunk: Chunk) {
        self.log.send_modify(|log| match chunk {
            Chunk::Attempt(attempt) => {
                log.attempt = attempt;
                log.texts.clear();
            }
            Chunk::Text(text) => log.texts.push(text),
        });
    }
}

/// Who waits for a call.
pub(crate) trait Caller: Chunks {
    /// Whether it still does.
    fn is_there(&self) -> impl Future<Output = bool> + Send;
}

/// One reader's place in the chunks of a call.
#[derive(Debug)]
struct Reader {
    log: watch::Receiver<Log>,
    attempt: u32,
    texts: usize,
    joined: usize,
}

impl Reader {
    /// What came since the last time.
    fn news(&mut self) -> Vec<Chunk> {
        let log = self.log.borrow_and_update();
        let mut news = Vec::new();
        if log.attempt != self.attempt {
            (self.attempt, self.texts) = (log.attempt, 0);
            news.push(Chunk::Attempt(log.attempt));
        }
        news.extend(log.texts[self.texts..].iter().cloned().map(Chunk::Text));
        self.texts = log.texts.len();
        news
    }

    /// Whether others joined since the last time.
    fn has_company(&mut self) -> bool {
        let joined = self.log.borrow().joined;
        std::mem::replace(&mut self.joined, joined) != joined
    }
}

/// Which calls are the same: those of one tenant with one key that ask the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    tenant: Tenant,
    key: String,
    sha256: [u8; 32],
}

impl Key {
    /// `None`: the caller gave no key, so each call stands for itself.
    pub(crate) fn of(tenant: &Tenant, request: &CompleteRequest) -> Option<Self> {
        let key = request.idempotency_key.clone()?;
        let asked = CompleteRequest {
            // What tells of the call, such as who makes it, does not change the answer; a script of the mock does.
            metadata: request
                .metadata
                .iter()
                .filter(|(name, _)| *name == crate::mock::SCRIPT_METADATA)
                .map(|(name, script)| (name.clone(), script.clone()))
                .collect(),
            ..request.clone()
        };
        let json = serde_json::to_vec(&asked).expect("texts and JSON values always serialise");
        Some(Self {
            tenant: tenant.clone(),
            key,
            sha256: Sha256::digest(json).into(),
        })
    }

    /// Of what is asked.
    pub(crate) const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

/// One who waits for a call.
pub(crate) enum Call {
    /// It runs while this is held.
    Running(Running),
    /// It was answered already.
    Answered(Arc<Completion>),
}

pub(crate) struct Running {
    work: Shared<Work>,
    reader: Reader,
}

impl Running {
    /// Hands over the chunks as they come, from the beginning of the newest attempt, and answers as the call does. Where
    /// a repeat joins, its first caller may have died: who is not there any more lets go, so that the call ends when
    /// those leave who are.
    pub(crate) async fn follow<C: Caller>(self, caller: &mut C) -> Result<Completion, Problem> {
        let Self { mut work, mut reader } = self;
        loop {
            let ended = tokio::select! {
                biased;
                ended = &mut work => Some(ended),
                Ok(()) = reader.log.changed() => None,
            };
            for chunk in reader.news() {
                caller.send(chunk).await;
            }
            if let Some(ended) = ended {
                return ended;
            }
            if reader.has_company() && !caller.is_there().await {
                return Err(Problem::new(Code::Unavailable, "the caller is gone"));
            }
        }
    }
}

enum Entry {
    Running {
        number: u64,
        work: WeakShared<Work>,
        log: watch::Sender<Log>,
    },
    Answered {
        until: Instant,
        bytes: usize,
        completion: Arc<Completion>,
    },
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// Keys of the answered ones.
    oldest_first: VecDeque<Key>,
    kept_bytes: usize,
    numbers: u64,
    /// Tries made by calls of this key that ended without an answer.
    unanswered: HashMap<Key, u32>,
    unanswered_oldest_first: VecDeque<Key>,
}

/// All calls of this process that have a key.
pub(crate) struct Calls {
    entries: Mutex<Entries>,
    window: Duration,
    answers_max: usize,
}

impl Calls {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            entries: Mutex::default(),
            window: Duration::from_millis(limits.repeat_window_ms),
            answers_max: limits.repeat_answers_max,
        }
    }

    /// The call of this key that runs or was answered; else a new one, which `start` makes. Nothing is worked on before
    /// it is followed.
    pub(crate) fn join(self: &Arc<Self>, key: Option<Key>, start: impl FnOnce(Recorder) -> Work) -> Call {
        let log = watch::Sender::new(Log::default());
        let Some(key) = key else {
            let recorder = Recorder {
                log: log.clone(),
                tries_before: 0,
            };
            return running(start(recorder).shared(), &log);
        };
        let mut entries = self.lock();
        entries.forget_old(Instant::now());
        match entries.by_key.get(&key) {
            Some(Entry::Answered { completion, .. }) => return Call::Answered(Arc::clone(completion)),
            Some(Entry::Running { work, log, .. }) => {
                if let Some(work) = work.upgrade() {
                    log.send_modify(|log| log.joined += 1);
                    return running(work, log);
                }
            }
            None => {}
        }
        entries.numbers += 1;
        let place = Place {
            calls: Arc::clone(self),
            key: key.clone(),
            number: entries.numbers,
            log: log.clone(),
        };
        let work = start(Recorder {
            log: log.clone(),
            tries_before: entries.unanswered.get(&key).copied().unwrap_or_default(),
        });
        let work = async move {
            let ended = work.await;
            if let Ok(completion) = &ended {
                place.answered(completion);
            }
            ended
        };
        let work = work.boxed().shared();
        let entry = Entry::Running {
            number: entries.numbers,
            work: work.downgrade().expect("it was never polled"),
            log: log.clone(),
        };
        let running = running(work, &log);
        entries.by_key.insert(key, entry);
        running
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn running(work: Shared<Work>, log: &watch::Sender<Log>) -> Call {
    let mut log = log.subscribe();
    let joined = log.borrow().joined;
    // What was streamed before is news to who joins.
    log.mark_changed();
    let reader = Reader {
        log,
        attempt: 0,
        texts: 0,
        joined,
    };
    Call::Running(Running { work, reader })
}

impl Entries {
    fn forget_old(&mut self, now: Instant) {
        while let Some(Entry::Answered { until, .. }) = self.oldest()
            && *until <= now
        {
            self.forget_oldest();
        }
    }

    fn oldest(&self) -> Option<&Entry> {
        self.by_key.get(self.oldest_first.front()?)
    }

    fn forget_oldest(&mut self) {
        if let Some(key) = self.oldest_first.pop_front()
            && let Some(Entry::Answered { bytes, .. }) = self.by_key.remove(&key)
        {
            self.kept_bytes -= bytes;
        }
    }
}

impl Entries {
    fn note_unanswered(&mut self, key: &Key, tries: u32) {
        if tries == 0 {
            return;
        }
        if let Some(known) = self.unanswered.get_mut(key) {
            *known = known.saturating_add(tries);
            return;
        }
        self.unanswered.insert(key.clone(), tries);
        self.unanswered_oldest_first.push_back(key.clone());
        if self.unanswered_oldest_first.len() > UNANSWERED_MAX
            && let Some(oldest) = self.unanswered_oldest_first.pop_front()
        {
            self.unanswered.remove(&oldest);
        }
    }
}

/// A running call's place in the table; dropped with its work, at its end or when nobody waits any more.
struct Place {
    calls: Arc<Calls>,
    key: Key,
    number: u64,
    log: watch::Sender<Log>,
}

impl Place {
    fn is_in(&self, entries: &Entries) -> bool {
        matches!(entries.by_key.get(&self.key), Some(Entry::Running { number, .. }) if *number == self.number)
    }

    fn answered(&self, completion: &Completion) {
        let mut entries = self.calls.lock();
        if !self.is_in(&entries) {
            return;
        }
        let calls = completion.tool_calls.iter().map(|call| call.to_string().len());
        let bytes = completion.text.len() + calls.sum::<usize>();
        let entry = Entry::Answered {
            until: Instant::now() + self.calls.window,
            bytes,
            completion: Arc::new(completion.clone()),
        };
        entries.by_key.insert(self.key.clone(), entry);
        entries.oldest_first.push_back(self.key.clone());
        entries.kept_bytes += bytes;
        while entries.oldest_first.len() > self.calls.answers_max || entries.kept_bytes > KEPT_BYTES_MAX {
            entries.forget_oldest();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let tries = self.log.borrow().attempt;
        let mut entries = self.calls.lock();
        if self.is_in(&entries) {
            entries.by_key.remove(&self.key);
            entries.note_unanswered(&self.key, tries);
        }
    }
}

#[cfg(test)]
mod tests;
