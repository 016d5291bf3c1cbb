//! Health: what a process needs to work, asked when somebody asks. Probes come in as traits, so that
//! this crate knows no database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Name of the probe behind `nats_connected`.
pub const NATS: &str = "nats";
/// Name of the probe behind `database_connected`.
pub const DATABASE: &str = "database";

/// A probe that takes longer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers this old are given again, so that a flood of questions is one question to the database.
const FRESH: Duration = Duration::from_millis(250);

/// Asks whether something that the service needs is there. The error says what is wrong, for people.
pub trait Probe: Send + Sync {
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

impl<F> Probe for F
where
    F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync,
{
    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        self()
    }
}

/// The probes of a process; each handle registers in the name of one service.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
    service: &'static str,
}

type Key = (&'static str, &'static str);

struct Shared {
    probes: Mutex<BTreeMap<Key, Arc<dyn Probe>>>,
    /// Also makes concurrent questions wait for one answer.
    last: tokio::sync::Mutex<Option<(Instant, HealthReport)>>,
    shutdown: CancellationToken,
}

/// What the probes said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthReport {
    pub failing: Vec<Failing>,
    /// The process has begun to drain: healthy, but not ready for more.
    pub draining: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    pub service: &'static str,
    pub probe: &'static str,
    pub reason: String,
}

impl HealthReport {
    pub fn is_ok(&self) -> bool {
        self.failing.is_empty()
    }

    pub fn is_ready(&self) -> bool {
        self.is_ok() && !self.draining
    }

    pub fn nats_connected(&self) -> bool {
        self.answers(NATS)
    }

    /// Also true where no service of the process uses the database.
    pub fn database_connected(&self) -> bool {
        self.answers(DATABASE)
    }

    fn answers(&self, probe: &str) -> bool {
        self.failing.iter().all(|failing| failing.probe != probe)
    }
}

impl Health {
    pub fn new(service: &'static str, shutdown: CancellationToken) -> Self {
        let shared = Shared {
            probes: Mutex::default(),
            last: tokio::sync::Mutex::default(),
            shutdown,
        };
        Self {
            shared: Arc::new(shared),
            service,
        }
    }

    /// The same probes; new ones are registered in the name of `service`.
    #[must_use]
    pub fn for_service(&self, service: &'static str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            service,
        }
    }

    /// Replaces the probe of this name of this service.
    pub fn register(&self, name: &'static str, probe: Arc<dyn Probe>) {
        self.probes().insert((self.service, name), probe);
    }

    /// The same for a closure that makes a future.
    pub fn register_with<F, Fut>(&self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let boxed = move || -> BoxFuture<'static, Result<(), String>> { Box::pin(check()) };
        self.register(name, Arc::new(boxed));
    }

    pub fn unregister(&self, name: &'static str) {
        self.probes().remove(&(self.service, name));
    }

    /// Asks every probe at once; takes at most 2 s.
    pub async fn check(&self) -> HealthReport {
        let mut last = self.shared.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return HealthReport {
                draining: self.shared.shutdown.is_cancelled(),
                ..report.clone()
            };
        }
        let report = self.ask().await;
        let before = last.as_ref().map_or(&[][..], |(_, report)| &report.failing);
        log_changes(before, &report.failing);
        *last = Some((Instant::now(), report.clone()));
        report
    }

    async fn ask(&self) -> HealthReport {
        let probes: Vec<_> = self
            .probes()
            .iter()
            .map(|(key, probe)| (*key, Arc::clone(probe)))
            .collect();
        let asked = probes.into_iter().map(|((service, name), probe)| async move {
            let reason = match tokio::time::timeout(PROBE_TIMEOUT, probe.check()).await {
                Ok(Ok(())) => return None,
                Ok(Err(reason)) => reason,
                Err(_) => format!("no answer within {} s", PROBE_TIMEOUT.as_secs()),
            };
            Some(Failing {
                service,
                probe: name,
                reason,
            })
        });
        let failing = futures::future::join_all(asked).await.into_iter().flatten().collect();
        HealthReport {
            failing,
            draining: self.shared.shutdown.is_cancelled(),
        }
    }

    fn probes(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<dyn Probe>>> {
        self.shared.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_changes(before: &[Failing], now: &[Failing]) {
    let same = |a: &Failing, b: &Failing| (a.service, a.probe) == (b.service, b.probe);
    for failing in now.iter().filter(|new| !before.iter().any(|old| same(old, new))) {
        tracing::warn!(
            of = failing.service,
            probe = failing.probe,
            reason = failing.reason,
            "a probe fails"
        );
    }
    for failing in before.iter().filter(|old| !now.iter().any(|new| same(old, new))) {
        tracing::info!(of = failing.service, probe = failing.probe, "a probe is well again");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_has_failed() {
        let health = Health::new("registry", CancellationToken::new());
        health.register_with(NATS, || async { Ok(()) });
        health.register_with(DATABASE, std::future::pending);
        let report = health.check().await;
        assert!(report.nats_connected() && !report.database_connected() && !report.is_ok());
        assert_eq!(report.failing[0].reason, "no answer within 2 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_asks_the_probe_once() {
        let health = Health::new("registry", CancellationToken::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        health.register_with(DATABASE, move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err("gone".to_owned()) }
        });
        for _ in 0..100 {
            assert!(!health.check().await.is_ok());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokio::time::advance(FRESH).await;
        health.check().await;
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_service_without_its_database_makes_the_process_unwell() {
        let health = Health::new("mesh", CancellationToken::new());
        health
            .for_service("registry")
            .register_with(DATABASE, || async { Ok(()) });
        health
            .for_service("memory")
            .register_with(DATABASE, || async { Err("refused".to_owned()) });
        let report = health.check().await;
        assert!(!report.database_connected());
        assert_eq!(report.failing.len(), 1);
        assert_eq!(report.failing[0].service, "memory");
    }
}
