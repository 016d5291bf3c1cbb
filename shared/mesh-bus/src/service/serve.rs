//! The loop of one endpoint: takes every request off the subscription at once, so that the client
//! never drops one silently; works on some, lets some wait, tells the rest `busy`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use mesh_types::subject::may_answer;
use mesh_types::{Code, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::cancel::{Calls, call_key};
use super::raw::{self, RawRequest};
use super::stats::{Counted, EndpointStats};
use super::{Answer, CallerLeaves, Handler, Incoming, RawHandler, Work};
use crate::consume::panic_text;
use crate::{Bus, Headers, traced};

/// One subscribed endpoint.
pub(super) struct Served {
    pub(super) bus: Bus,
    pub(super) service: &'static str,
    pub(super) name: String,
    pub(super) subscriber: Subscriber,
    pub(super) stats: Arc<EndpointStats>,
    pub(super) running_max: usize,
    pub(super) waiting_max: usize,
    pub(super) calls: Arc<Calls>,
    pub(super) stop: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) tracker: TaskTracker,
}

impl Served {
    pub(super) async fn run(self, work: Work) {
        match work {
            Work::Typed {
                handler,
                deadline,
                caller,
            } => self.run_typed(handler, deadline, caller).await,
            Work::Raw(handler) => self.run_raw(handler).await,
        }
    }

    async fn run_typed(mut self, handler: Handler, deadline: Duration, caller: CallerLeaves) {
        let admitted = Arc::new(Semaphore::new(self.running_max + self.waiting_max));
        let running = Arc::new(Semaphore::new(self.running_max));
        let name: Arc<str> = Arc::from(self.name.as_str());
        while let Some(message) = next(&mut self.subscriber, &self.stop).await {
            let Ok(place) = Arc::clone(&admitted).try_acquire_owned() else {
                self.tell_busy(message.reply).await;
                continue;
            };
            let taken = match (&message.reply, caller) {
                (Some(inbox), CallerLeaves::Drop) => match self.calls.take(&call_key(&message.subject, inbox)) {
                    None => continue,
                    taken => taken,
                },
                _ => None,
            };
            let one = One {
                incoming: Incoming {
                    bus: self.bus.clone(),
                    subject: message.subject.into_string(),
                    headers: message.headers.into(),
                    payload: message.payload,
                    reply: message.reply.map(async_nats::Subject::into_string),
                },
                came: Instant::now(),
                deadline,
                service: self.service,
                endpoint: Arc::clone(&name),
                stats: Arc::clone(&self.stats),
                _place: place,
            };
            let handled = one.handle(Arc::clone(&running), Arc::clone(&handler));
            let handled = async move {
                match taken {
                    Some(taken) => taken.run(handled).await,
                    None => handled.await,
                }
            };
            self.tracker
                .spawn(self.abort.clone().run_until_cancelled_owned(handled));
        }
    }

    async fn run_raw(mut self, handler: RawHandler) {
        let in_work_max = self.running_max + self.waiting_max;
        let mut in_work = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = in_work.next(), if !in_work.is_empty() => {}
                message = next(&mut self.subscriber, &self.stop) => {
                    let Some(message) = message else { break };
                    if in_work.len() >= in_work_max {
                        self.tell_busy(message.reply).await;
                        continue;
                    }
                    let reply = message.reply.clone();
                    let request = RawRequest::new(self.bus.clone(), message, Counted::new(&self.stats));
                    let (handler, stats, bus) = (&handler, &self.stats, &self.bus);
                    let name = self.name.as_str();
                    in_work.push(async move {
                        // The call itself may panic, too, not only what it returns.
                        let handled = AssertUnwindSafe(async { handler(request).await });
                        let panicked = handled.catch_unwind().await.err();
                        if let Some(panic) = panicked {
                            let problem = told_panic(name, panic.as_ref());
                            stats.note(&problem);
                            raw::send_problem(bus, reply, &problem).await;
                        }
                    });
                }
            }
        }
        while in_work.next().await.is_some() {}
    }

    async fn tell_busy(&self, reply: Option<async_nats::Subject>) {
        let problem = Problem::new(Code::Busy, format!("{} has too much to do", self.name));
        self.stats.failed(&problem);
        raw::send_problem(&self.bus, reply, &problem).await;
    }
}

/// The server checks what somebody publishes, but not where the answer is wanted: that would be published with our rights.
fn may_be_answered(message: &async_nats::Message) -> bool {
    let reply = message.reply.as_ref();
    reply.is_none_or(|reply| may_answer(&message.subject, reply))
}

/// The next request; when told to stop, what the server sent before it heard of that, then `None`.
async fn next(subscriber: &mut Subscriber, stop: &CancellationToken) -> Option<async_nats::Message> {
    loop {
        let message = next_of_all(subscriber, stop).await?;
        if may_be_answered(&message) {
            return Some(message);
        }
        tracing::warn!(subject = %message.subject, "an answer is wanted where who asks may not speak");
    }
}

async fn next_of_all(subscriber: &mut Subscriber, stop: &CancellationToken) -> Option<async_nats::Message> {
    if let Some(message) = stop.run_until_cancelled(subscriber.next()).await {
        return message;
    }
    // Repeating it changes nothing, and without a connection there is nothing to drain.
    if subscriber.drain().await.is_err() {
        return None;
    }
    subscriber.next().await
}

/// One request on its way.
struct One {
    incoming: Incoming,
    came: Instant,
    deadline: Duration,
    service: &'static str,
    endpoint: Arc<str>,
    stats: Arc<EndpointStats>,
    _place: OwnedSemaphorePermit,
}

impl One {
    async fn handle(self, running: Arc<Semaphore>, handler: Handler) {
        let Ok(_slot) = running.acquire().await else {
            return;
        };
        if self.came.elapsed() >= self.deadline {
            self.stats.late();
            return;
        }
        let span = tracing::info_span!("request", mesh.service = self.service, mesh.endpoint = &*self.endpoint);
        let mut trace = traced::answering(
            self.service,
            &self.endpoint,
            &self.incoming.subject,
            &self.incoming.headers,
        );
        let (bus, reply) = (self.incoming.bus.clone(), self.incoming.reply.clone());
        let incoming = self.incoming;
        let handled = AssertUnwindSafe(async { handler(incoming).await });
        let answer: Answer = match trace.run(handled.catch_unwind().instrument(span)).await {
            Ok(answer) => answer,
            Err(panic) => Err(told_panic(&self.endpoint, panic.as_ref())),
        };
        let answer = traced::answered(&mut trace, answer);
        let took = self.came.elapsed();
        trace.enter(|| self.stats.handled(took, answer.as_ref().err()));
        drop(trace);
        let problem = match answer {
            Ok((headers, payload)) => match send(&bus, reply.as_ref(), headers, payload).await {
                Ok(()) => return,
                Err(problem) => {
                    self.stats.failed(&problem);
                    problem
                }
            },
            Err(problem) => problem,
        };
        raw::send_problem(&bus, reply.map(Into::into), &problem).await;
    }
}

/// An answer that cannot be sent, as one over the server's limit, becomes a problem.
async fn send(bus: &Bus, reply: Option<&String>, headers: Headers, payload: bytes::Bytes) -> Result<(), Problem> {
    let Some(reply) = reply else { return Ok(()) };
    bus.enqueue(reply.clone(), headers, payload)
        .await
        .map_err(|error| Problem::new(Code::Internal, format!("the answer could not be sent: {error}")))
}

fn told_panic(endpoint: &str, panic: &(dyn std::any::Any + Send)) -> Problem {
    tracing::error!(endpoint, panic = panic_text(panic), "a handler panicked");
    Problem::new(Code::Internal, format!("{endpoint} failed inside"))
}
