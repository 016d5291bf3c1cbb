//! A small load on a project: publishes invocations durably, one after the other, and counts those that were accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::nats::{Client, Identity};

/// Pause between two publishes: a load, not a benchmark.
const PAUSE: Duration = Duration::from_millis(100);
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// What is published, until it is stopped.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    /// Keys of its invocations begin with `run`.
    pub(super) fn start(ports: Vec<u16>, identity: Identity, run: String) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || publish(&ports, &identity, &run, &of_thread));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Tries that got no acknowledgement; each was made again until it got one.
    pub(super) fn retried(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Waits until so many more are accepted.
    pub(super) fn wait_for_more(&self, more: u64, deadline: Duration) -> anyhow::Result<()> {
        let (wanted, began) = (self.accepted() + more, Instant::now());
        while self.accepted() < wanted {
            if began.elapsed() >= deadline {
                anyhow::bail!("invocations are not accepted any more");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends it; how many were accepted.
    pub(super) fn stop(mut self) -> u64 {
        self.end();
        self.accepted()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn publish(ports: &[u16], identity: &Identity, run: &str, shared: &Shared) {
    let mut client = None;
    let mut servers = ports.iter().cycle();
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.accepted.load(Ordering::Relaxed);
        // The same key until it is accepted: what was taken in without an answer is not taken twice.
        let body = format!(r#"{{"idempotency_key":"{run}-{number}","payload":{{"text":"number {number}"}}}}"#);
        let connected = match client.take() {
            Some(connected) => Some(connected),
            None => servers.next().and_then(|port| Client::connect(*port, identity).ok()),
        };
        let acknowledged = connected.and_then(|mut connected| {
            let answer = connected
                .request("mesh.invoke.default.sofia", &body, ANSWER_DEADLINE)
                .ok()?;
            answer.contains("\"seq\"").then_some(connected)
        });
        match acknowledged {
            Some(connected) => {
                client = Some(connected);
                shared.accepted.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(PAUSE);
    }
}
