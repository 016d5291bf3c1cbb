//! Tells receivers of their tasks, at least once and in order: one process holds the lease of a configuration, follows
//! the task, posts each change and then notes how far it is. A process that is lost leaves the rest to the next.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use a2a::event::StreamResponse;
use a2a::types::TaskPushNotificationConfig;
use mesh_api::Caller;
use mesh_api::execution::{InvocationGet, InvocationRequest};
use mesh_bus::{Bucket, KvEntry};
use mesh_runtime::{Context, PassReport, run_loop};
use mesh_types::{Code, Problem, Tenant};

use super::entry::{Entry, LEASE};
use super::sealer;
use super::turns::{Waiting, in_turn};
use crate::feed::Cursor;
use crate::http::a2a::fold::Fold;
use crate::http::a2a::task::task;
use crate::http::followed::{Run, Told};
use crate::http::problem::Failure;
use crate::http::shares::Share;
use crate::state::App;

/// The bucket is looked through at least so often: for what another process left.
const TICK: Duration = Duration::from_secs(15);
/// A receiver answers within.
const ANSWER: Duration = Duration::from_secs(10);
/// Pauses between tries double from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A receiver that cannot be told for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// The lease is renewed while nothing happens.
const RENEW: Duration = Duration::from_secs(10);
/// Who has nothing to tell keeps a place that others wait for at least so long.
const TURN_MIN: Duration = Duration::from_secs(30);
const _: () = assert!(LEASE.as_secs() >= 2 * (RENEW.as_secs() + ANSWER.as_secs()) - 10);

/// Looks for what is to be told until the process stops.
pub(in crate::http) fn start(app: &App, context: &Context) {
    let (app, context) = (app.clone(), context.clone());
    let bell = app.push.bell.clone();
    let tasks = context.tasks.clone();
    tasks.spawn(
        "a2a-push",
        run_loop(context, "a2a-push", bell, TICK, move || pass(app.clone())),
    );
}

/// Takes every configuration that nobody tells.
async fn pass(app: App) -> PassReport {
    let all = match app.bus.kv_list(Bucket::Pushes).await {
        Ok(all) => all,
        Err(error) => return PassReport::failed(error),
    };
    let (mut taken, mut is_awaited) = (0, false);
    for next in free(&app, all) {
        let (kept, mut entry) = next.what;
        let Ok(share) = app.push.places.take(&next.tenant) else {
            is_awaited = true;
            continue;
        };
        entry.take(&app.push.holder, app.clock.now());
        let Ok(revision) = app
            .bus
            .kv_update(Bucket::Pushes, &kept.key, entry.to_bytes(), kept.revision)
            .await
        else {
            // Another process was quicker.
            continue;
        };
        let telling = Telling {
            app: app.clone(),
            key: kept.key,
            entry,
            revision,
        };
        app.push.tasks.spawn("a2a-push-task", telling.run(share));
        taken += 1;
    }
    app.push.is_awaited.store(is_awaited, Ordering::Relaxed);
    PassReport::planned(taken)
}

/// What nobody tells at the moment, in order of turns; counts all on the way.
fn free(app: &App, all: Vec<KvEntry>) -> Vec<Waiting<(KvEntry, Entry)>> {
    let now = app.clock.now();
    let (mut counts, mut waiting) = (HashMap::<Tenant, usize>::new(), Vec::new());
    for kept in all {
        let Some(entry) = kept.value.as_deref().and_then(Entry::read) else {
            continue;
        };
        *counts.entry(entry.tenant.clone()).or_default() += 1;
        if entry.is_free(now) {
            waiting.push(Waiting {
                tenant: entry.tenant.clone(),
                since: entry.waits_since(),
                what: (kept, entry),
            });
        }
    }
    *app.push.counts() = counts;
    in_turn(waiting, |tenant| app.push.places.of(tenant))
}

/// One configuration that this process tells.
struct Telling {
    app: App,
    key: String,
    entry: Entry,
    revision: u64,
}

/// Why this process tells no more of it.
enum Stop {
    /// Nothing is left to tell, or nobody is left to be told.
    Over,
    /// Another process, or this one later, goes on: it was changed, deleted, or cannot be read now.
    Left,
    /// It has nothing to tell at the moment, and others wait for its place.
    Turn,
}

impl Telling {
    async fn run(mut self, share: Share) {
        let shutdown = self.app.shutdown.clone();
        let stop = tokio::select! {
            stop = self.tell(share) => stop,
            () = shutdown.cancelled() => Stop::Left,
        };
        match stop {
            // Whoever replaced it meanwhile has the newer revision, which noting tells.
            Stop::Over => {
                if self.note().await.is_ok()
                    && let Err(error) = self.app.bus.kv_delete(Bucket::Pushes, &self.key).await
                {
                    tracing::warn!(%error, "a push configuration that is done could not be deleted; it will be told again");
                }
            }
            Stop::Turn => {
                self.entry.end_turn(self.app.clock.now());
                if self.keep().await.is_ok() {
                    self.app.push.bell.ring();
                }
            }
            Stop::Left => {}
        }
    }

    async fn tell(&mut self, share: Share) -> Stop {
        let Ok(sealer) = sealer(&self.app).await else {
            return Stop::Left;
        };
        let Some(config) = self.entry.config((sealer, &self.key)) else {
            tracing::warn!(
                key = self.key,
                "a push configuration was sealed with another secret; it is dropped"
            );
            return Stop::Over;
        };
        let caller = Caller::service("gateway", self.entry.tenant.clone());
        let request = InvocationRequest {
            id: self.entry.invocation,
        };
        let invocation = match self.app.call::<InvocationGet>(&caller, &request).await {
            Ok(invocation) => invocation,
            Err(Failure(problem)) if problem.is(Code::InvocationNotFound) => return Stop::Over,
            Err(_) => return Stop::Left,
        };
        let after: Cursor = self.entry.told.parse().unwrap_or_default();
        let mut fold = Fold::new(&invocation);
        let mut run = match Run::follow_with(&self.app, &caller, invocation, after, share).await {
            Ok(run) => run,
            Err(Failure(problem)) if problem.is(Code::InvocationEnded) => return Stop::Over,
            Err(_) => return Stop::Left,
        };
        let begun = self.app.clock.monotonic();
        loop {
            let next = tokio::time::timeout(RENEW, run.next()).await;
            let Ok(next) = next else {
                match self.idle(begun).await {
                    Ok(()) => continue,
                    Err(stop) => return stop,
                }
            };
            let Some((cursor, told)) = next else {
                return Stop::Left;
            };
            let is_end = matches!(told, Told::Ended(_));
            let event = if is_end {
                // All of it, with its answer.
                match self.app.call::<InvocationGet>(&caller, &request).await {
                    Ok(invocation) => Some(StreamResponse::Task(task(&invocation, None))),
                    Err(_) => return Stop::Left,
                }
            } else {
                let events = fold.take(told);
                events
                    .into_iter()
                    .find(|event| matches!(event, StreamResponse::StatusUpdate(_)))
            };
            if let Some(event) = event
                && let Err(stop) = self.post(&config, &event).await
            {
                return stop;
            }
            if is_end {
                return Stop::Over;
            }
            // Text is not told, so a cursor within it is of no use.
            self.entry.told = Cursor {
                inside: Vec::new(),
                ..cursor
            }
            .to_string();
        }
    }

    /// While nothing happens it keeps its place, unless others wait for it.
    async fn idle(&mut self, begun: Duration) -> Result<(), Stop> {
        let has_had_its_turn = self.app.clock.monotonic().saturating_sub(begun) >= TURN_MIN;
        if has_had_its_turn && self.app.push.is_awaited.load(Ordering::Relaxed) {
            return Err(Stop::Turn);
        }
        self.note().await
    }

    /// Until it is taken, or the receiver is given up.
    async fn post(&mut self, config: &TaskPushNotificationConfig, event: &StreamResponse) -> Result<(), Stop> {
        let body = serde_json::to_vec(event).unwrap_or_default();
        let mut pause = PAUSE_MIN;
        loop {
            let posted = post(config, &self.app.push.networks, body.clone()).await;
            let now = self.app.clock.now();
            let problem = match posted {
                Ok(()) => {
                    self.entry.failing_since = None;
                    return self.note().await;
                }
                Err(problem) => problem,
            };
            let since = *self.entry.failing_since.get_or_insert(now);
            let is_hopeless = problem.is(Code::ToolRefused) || now.since(since) >= PATIENCE;
            tracing::info!(invocation = %self.entry.invocation, %problem, is_hopeless, "a receiver of pushes was not told");
            if is_hopeless {
                return Err(Stop::Over);
            }
            self.note().await?;
            self.rest(pause).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn rest(&mut self, pause: Duration) -> Result<(), Stop> {
        let mut left = pause;
        while left > Duration::ZERO {
            let nap = left.min(RENEW);
            tokio::time::sleep(nap).await;
            left -= nap;
            self.note().await?;
        }
        Ok(())
    }

    /// Keeps how far it is, and the lease.
    async fn note(&mut self) -> Result<(), Stop> {
        let now = self.app.clock.now();
        self.entry.take(&self.app.push.holder, now);
        self.keep().await
    }

    async fn keep(&mut self) -> Result<(), Stop> {
        let bytes = self.entry.to_bytes();
        let kept = self
            .app
            .bus
            .kv_update(Bucket::Pushes, &self.key, bytes, self.revision)
            .await;
        self.revision = kept.map_err(|_| Stop::Left)?;
        Ok(())
    }
}

async fn post(config: &TaskPushNotificationConfig, networks: &[String], body: Vec<u8>) -> Result<(), Problem> {
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("a2a-version", a2a::VERSION.to_owned()),
    ];
    if let Some(token) = &config.token {
        headers.push(("x-a2a-notification-token", token.clone()));
    }
    if let Some(authentication) = &config.authentication {
        let credentials = authentication.credentials.as_deref().unwrap_or_default();
        headers.push(("authorization", format!("{} {credentials}", authentication.scheme)));
    }
    mesh_tools::post(&config.url, networks, &headers, body, ANSWER).await
}
