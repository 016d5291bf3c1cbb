//! Streamed calls whose caller has left: dropped at work and while they wait. A caller leaves by a message to all
//! instances that names its inbox; only a caller that lives says so, a silent one is worked for to the end.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Subscriber;
use futures::{FutureExt, StreamExt};
use mesh_types::subject::Filter;
use mesh_types::{Subject, Token};
use tokio_util::sync::CancellationToken;

use crate::Bus;

/// Name of the endpoint that hears of those who leave, in every service that streams.
const ENDPOINT: &str = "cancel-call";
/// Inboxes that are remembered although no call of theirs is known: the call may still be on its way.
const EARLY_MAX: usize = 1_024;
const INBOX_BYTES_MAX: usize = 256;

/// Where callers of `mesh.svc.…` say that they leave.
pub(super) fn subject(service: &str) -> Subject {
    Subject::Service {
        service: token(service),
        endpoint: token(ENDPOINT),
    }
}

/// Where nodes do: on their own roads, as everything that they say.
pub(super) fn of_nodes(service: &str) -> Filter {
    Filter::Nodes {
        service: token(service),
        endpoint: token(ENDPOINT),
    }
}

/// Where the caller of an endpoint says it.
fn beside(asked: &Subject) -> Option<Subject> {
    match asked {
        Subject::Service { service, .. } => Some(subject(service.as_str())),
        Subject::NodeService { node, service, .. } => Some(Subject::NodeService {
            node: node.clone(),
            service: service.clone(),
            endpoint: token(ENDPOINT),
        }),
        _ => None,
    }
}

fn token(text: &str) -> Token {
    text.parse().expect("names of services are tokens")
}

/// What a call is known by: its inbox, and for a node's call the node, which can only leave calls of its own.
pub(super) fn call_key(asked: &str, inbox: &str) -> String {
    match asked.parse() {
        Ok(Subject::NodeService { node, .. }) => format!("{node} {inbox}"),
        _ => inbox.to_owned(),
    }
}

/// Tells a service that nobody waits at `inbox`, when it is dropped before [`Leaving::stayed`].
pub(crate) struct Leaving<'a> {
    bus: &'a Bus,
    /// Where it is said, and the inbox that is left.
    told: Option<(Subject, String)>,
}

impl<'a> Leaving<'a> {
    pub(crate) fn new(bus: &'a Bus, asked: &Subject, inbox: String) -> Self {
        let told = beside(asked).map(|subject| (subject, inbox));
        Self { bus, told }
    }

    pub(crate) fn stayed(mut self) {
        self.told = None;
    }
}

impl Drop for Leaving<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the subject is built by `Subject`; nothing can be awaited here"
    )]
    fn drop(&mut self) {
        let Some((subject, inbox)) = self.told.take() else {
            return;
        };
        let subject = subject.to_string();
        let told = self.bus.client().publish(subject.clone(), inbox.into());
        // Handing over is immediate as long as there is room. Without room there is no connection either.
        if !matches!(tokio::task::unconstrained(told).now_or_never(), Some(Ok(()))) {
            tracing::debug!(subject, "a service is not told that its caller left");
        }
    }
}

/// The streamed calls that an instance has taken.
#[derive(Default)]
pub(super) struct Calls(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By inbox. The client may repeat a request when it connects anew, so one inbox may have several calls.
    taken: HashMap<String, (CancellationToken, usize)>,
    early: VecDeque<String>,
}

impl Calls {
    /// `None`: its caller has left already.
    pub(super) fn take(self: &Arc<Self>, inbox: &str) -> Option<Taken> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.early.iter().any(|left| left == inbox) {
            return None;
        }
        let (token, calls) = known.taken.entry(inbox.to_owned()).or_default();
        *calls += 1;
        Some(Taken {
            calls: Arc::clone(self),
            inbox: inbox.to_owned(),
            token: token.clone(),
        })
    }

    fn left(&self, inbox: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, _)) = known.taken.get(inbox) {
            token.cancel();
        } else if inbox.len() <= INBOX_BYTES_MAX {
            known.early.truncate(EARLY_MAX - 1);
            known.early.push_front(inbox.to_owned());
        }
    }

    pub(super) async fn hear(self: Arc<Self>, mut leaving: Subscriber) {
        while let Some(message) = leaving.next().await {
            if let Ok(inbox) = std::str::from_utf8(&message.payload) {
                self.left(&call_key(&message.subject, inbox));
            }
        }
    }
}

/// One call, until it is dropped.
pub(super) struct Taken {
    calls: Arc<Calls>,
    inbox: String,
    token: CancellationToken,
}

impl Taken {
    /// Runs to its end, or until the caller leaves.
    pub(super) async fn run(self, work: impl Future<Output = ()>) {
        let _ = self.token.run_until_cancelled(work).await;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut known = self.calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, calls)) = known.taken.get_mut(&self.inbox) {
            *calls -= 1;
            if *calls == 0 {
                known.taken.remove(&self.inbox);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_before_its_call_is_taken_is_not_worked_for() {
        let calls = Arc::new(Calls::default());
        calls.left("a");
        assert!(calls.take("a").is_none());
        assert!(calls.take("b").is_some());
        for number in 0..EARLY_MAX {
            calls.left(&format!("other {number}"));
        }
        assert!(calls.take("a").is_some(), "only the last ones are remembered");
        calls.left(&"x".repeat(INBOX_BYTES_MAX + 1));
        let known = calls.0.lock().unwrap();
        assert_eq!(known.early.len(), EARLY_MAX);
        assert!(known.taken.is_empty(), "what ended is forgotten");
    }

    #[test]
    fn a_node_leaves_its_own_calls_alone() {
        let calls = Arc::new(Calls::default());
        let asked = "mesh.node.n1.inference.complete";
        let taken = calls.take(&call_key(asked, "_INBOX.a")).unwrap();
        calls.left(&call_key("mesh.node.n2.inference.cancel-call", "_INBOX.a"));
        calls.left(&call_key("mesh.svc.inference.cancel-call", "_INBOX.a"));
        assert!(!taken.token.is_cancelled());
        calls.left(&call_key(
            &beside(&asked.parse().unwrap()).unwrap().to_string(),
            "_INBOX.a",
        ));
        assert!(taken.token.is_cancelled());
    }

    #[test]
    fn a_repeated_request_is_left_as_a_whole() {
        let calls = Arc::new(Calls::default());
        let (first, second) = (calls.take("a").unwrap(), calls.take("a").unwrap());
        drop(first);
        calls.left("a");
        assert!(second.token.is_cancelled());
    }
}
