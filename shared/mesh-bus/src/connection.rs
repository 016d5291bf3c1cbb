//! One connection to NATS that outlives every restart of the server, and the bell that tells of it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ClientError, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use mesh_types::{NodeId, Subject, Token};
use tokio::sync::watch;

use crate::address::split_user;
use crate::{BusError, Observer};

/// Longest pause between two attempts to connect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(4);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Messages that one subscription holds until they are read; what is over it is dropped and rings
/// the bell.
const SUBSCRIPTION_MESSAGES_MAX: usize = 65_536;
/// Messages on their way to the socket; past it, publishing waits.
const OUTGOING_MESSAGES_MAX: usize = 8_192;
const PING_INTERVAL: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a message may wait for room on the way to the socket, which there is unless the
/// connection is down.
pub(crate) const ENQUEUE_DEADLINE: Duration = Duration::from_secs(10);

/// How to reach NATS.
#[derive(Clone)]
pub struct BusOptions {
    /// `nats://host:port`, several separated by commas, also with `user:password@`; `ws://` and `wss://` with a path for NATS over WebSocket.
    pub url: String,
    /// Name of the connection, as the server lists it.
    pub name: String,
    /// HTTP monitoring of the server, `http://host:port`; without it nobody sees whether it syncs.
    pub monitor_url: Option<String>,
    /// User and password.
    pub user: Option<(String, String)>,
}

impl fmt::Debug for BusOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusOptions")
            .field("url", &self.url)
            .field("name", &self.name)
            .field("monitor_url", &self.monitor_url)
            .field("user", &self.user.as_ref().map(|(user, _)| (user, "***")))
            .finish()
    }
}

/// The roads, on one connection. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// Only for KV watches: the client's ordered consumers repair themselves.
    jetstream: async_nats::jetstream::Context,
    bells: Arc<Bells>,
    options: BusOptions,
    /// Who may say and hear only what is its own.
    confined: Option<NodeId>,
    observer: OnceLock<Arc<dyn Observer>>,
}

struct Bells {
    /// Times a subscriber may have missed something.
    missed: watch::Sender<u64>,
    /// Times a connection was made.
    connected: watch::Sender<u64>,
    /// Times the server refused the credential.
    refused: watch::Sender<u64>,
}

/// Where answers come to.
const INBOX: &str = "_INBOX";

impl Bus {
    /// Connects in the background, for ever, with growing pauses and jitter: services start in
    /// any order. Returns at once.
    ///
    /// # Errors
    /// [`BusError::Address`] when the address is none.
    pub async fn connect(options: BusOptions) -> Result<Self, BusError> {
        Self::open(options, None, FirstTry::Background).await
    }

    /// As [`Bus::connect`], for a node, or who joins: it hears answers below `_INBOX.<node>` only, and says nothing but
    /// its own subjects.
    ///
    /// # Errors
    /// As [`Bus::connect`].
    pub async fn connect_confined(options: BusOptions, node: NodeId) -> Result<Self, BusError> {
        Self::open(options, Some(node), FirstTry::Background).await
    }

    /// As [`Bus::connect_confined`] or, without a node, [`Bus::connect`]; but connected when it returns, and it tries
    /// each address once. Later it reconnects for ever, too.
    ///
    /// # Errors
    /// [`BusError::Unreachable`], [`BusError::CredentialRefused`] or [`BusError::Address`].
    pub async fn connect_now(options: BusOptions, node: Option<NodeId>) -> Result<Self, BusError> {
        let bus = Self::open(options, node, FirstTry::Now).await?;
        // The client tells of it in a moment; until then a call would take it for a reconnect, and ask twice.
        let mut connections = bus.connections();
        let told = connections.wait_for(|count| *count > 0);
        let _ = tokio::time::timeout(CONNECT_DEADLINE, told).await;
        Ok(bus)
    }

    async fn open(options: BusOptions, confined: Option<NodeId>, first_try: FirstTry) -> Result<Self, BusError> {
        let options = split_user(options);
        let bells = Arc::new(Bells {
            missed: watch::channel(0).0,
            connected: watch::channel(0).0,
            refused: watch::channel(0).0,
        });
        let inbox = match (&confined, own_inbox(&options)) {
            (Some(node), _) => format!("{INBOX}.{node}"),
            (None, Some(user)) => format!("{INBOX}.{user}"),
            (None, None) => INBOX.to_owned(),
        };
        let connect = connect_options(&options, &inbox, first_try, Arc::clone(&bells));
        let addresses: Vec<&str> = options.url.split(',').map(str::trim).collect();
        let connected = connect.connect(addresses.as_slice()).await;
        let client = connected.map_err(|source| not_connected(&options.url, source))?;
        let jetstream = async_nats::jetstream::new(client.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                jetstream,
                bells,
                options,
                confined,
                observer: OnceLock::new(),
            }),
        })
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected
    }

    /// Waits for a connection; `false` when the deadline passes without one.
    pub async fn wait_connected(&self, deadline: Duration) -> bool {
        let mut connections = self.connections();
        let connected = async {
            while !self.is_connected() {
                // The sender lives as long as this bus.
                let _ = connections.changed().await;
            }
        };
        tokio::time::timeout(deadline, connected).await.is_ok()
    }

    /// A bell: its number rises whenever a subscriber may have missed messages, that is at every
    /// connection made and when the client dropped messages of a slow subscriber. Whoever keeps
    /// state from messages reads the truth again then.
    #[must_use]
    pub fn reconnects(&self) -> watch::Receiver<u64> {
        self.inner.bells.missed.subscribe()
    }

    /// A bell: its number rises whenever the server refuses the credential, which is tried again for ever.
    #[must_use]
    pub fn refusals(&self) -> watch::Receiver<u64> {
        self.inner.bells.refused.subscribe()
    }

    /// A bell: its number rises whenever a connection is made. What a server held in memory may be gone then.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.inner.bells.connected.subscribe()
    }

    pub(crate) fn observer_cell(&self) -> &OnceLock<Arc<dyn Observer>> {
        &self.inner.observer
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn jetstream(&self) -> &async_nats::jetstream::Context {
        &self.inner.jetstream
    }

    /// How this bus was connected.
    #[must_use]
    pub fn options(&self) -> &BusOptions {
        &self.inner.options
    }

    /// A subject where it may speak and nobody listens.
    pub(crate) fn nowhere(&self) -> String {
        let token = |text: &str| text.parse().expect("a literal token");
        match self.inner.confined.clone() {
            Some(node) => Subject::NodeService {
                node,
                service: token("bus"),
                endpoint: token("flush"),
            }
            .to_string(),
            None => self.inner.client.new_inbox(),
        }
    }

    /// A text that no other process and no later call gets.
    pub(crate) fn unique(&self) -> String {
        let inbox = self.inner.client.new_inbox();
        inbox.rsplit('.').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("url", &self.inner.options.url)
            .field("is_connected", &self.is_connected())
            .finish()
    }
}

impl Bells {
    fn heard(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.connected.send_modify(|count| *count += 1);
                self.missed.send_modify(|count| *count += 1);
            }
            Event::SlowConsumer(subscription) => {
                tracing::warn!(subscription, "a slow subscriber lost messages");
                self.missed.send_modify(|count| *count += 1);
            }
            Event::ServerError(error) => {
                if matches!(error, ServerError::AuthorizationViolation) {
                    self.refused.send_modify(|count| *count += 1);
                }
                tracing::warn!(%error, "NATS reports an error");
            }
            Event::ClientError(error) => {
                if is_refusal(error) {
                    self.refused.send_modify(|count| *count += 1);
                }
                tracing::warn!(%error, "the NATS client reports an error");
            }
            Event::Disconnected | Event::LameDuckMode | Event::Draining | Event::Closed => {}
        }
    }
}

/// Below its user's name, where that is one token: nobody else's permissions let him hear answers there.
fn own_inbox(options: &BusOptions) -> Option<Token> {
    options.user.as_ref()?.0.parse().ok()
}

/// How the first connection is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstTry {
    Background,
    Now,
}

fn connect_options(options: &BusOptions, inbox: &str, first_try: FirstTry, bells: Arc<Bells>) -> ConnectOptions {
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .max_reconnects(None)
        .connection_timeout(CONNECT_DEADLINE)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
        .client_capacity(OUTGOING_MESSAGES_MAX)
        .custom_inbox_prefix(inbox)
        .reconnect_delay_callback(pause_before)
        .event_callback(move |event| {
            bells.heard(&event);
            async {}
        });
    if first_try == FirstTry::Background {
        connect = connect.retry_on_initial_connect();
    }
    if options.url.starts_with("ws") {
        // A proxy's servers have addresses that its clients cannot reach.
        connect = connect.ignore_discovered_servers();
    }
    if let Some((user, password)) = &options.user {
        connect = connect.user_and_password(user.clone(), password.clone());
    }
    connect
}

fn not_connected(url: &str, source: ConnectError) -> BusError {
    let url = without_user(url);
    match source.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            BusError::CredentialRefused { url }
        }
        ConnectErrorKind::ServerParse => BusError::Address { url, source },
        _ => BusError::Unreachable { url, source },
    }
}

/// For errors: what stands before an `@` may be a password.
fn without_user(url: &str) -> String {
    let hide = |url: &str| match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://{host}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    };
    url.split(',').map(hide).collect::<Vec<_>>().join(",")
}

/// The client passes a refused connection on as text only.
fn is_refusal(error: &ClientError) -> bool {
    match error {
        ClientError::Other(text) => {
            let refused = [
                ConnectErrorKind::AuthorizationViolation,
                ConnectErrorKind::Authentication,
            ];
            refused.iter().any(|kind| text == &kind.to_string())
        }
        _ => false,
    }
}

/// Doubling pauses; randomness spreads processes that lost the server together.
fn pause_before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let pause = (RECONNECT_PAUSE_MIN * 2_u32.pow(doublings)).min(RECONNECT_PAUSE_MAX);
    let jitter = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), attempt) % 1_000;
    pause.mul_f64(0.5 + jitter as f64 / 2_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_never_vanish() {
        for attempt in [0, 1, 2, 5, 50, usize::MAX] {
            let pause = pause_before(attempt);
            assert!(
                pause >= RECONNECT_PAUSE_MIN / 2 && pause <= RECONNECT_PAUSE_MAX,
                "{pause:?}"
            );
        }
        assert!(pause_before(20) >= RECONNECT_PAUSE_MAX / 2);
    }

    #[test]
    fn an_error_names_the_address_without_its_password() {
        assert_eq!(
            without_user("nats://ann:hunter2@a:4222,nats://b:1"),
            "nats://a:4222,nats://b:1"
        );
        assert_eq!(without_user("localhost"), "localhost");
    }

    #[test]
    fn a_password_is_never_shown() {
        let options = BusOptions {
            url: "nats://127.0.0.1:4222".to_owned(),
            name: "test".to_owned(),
            monitor_url: None,
            user: Some(("ann".to_owned(), "hunter2".to_owned())),
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
