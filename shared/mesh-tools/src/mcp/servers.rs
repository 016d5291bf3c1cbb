//! Servers that are kept between calls: started at the first, again when dead, ended when idle and at the end.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mesh_types::tool::Mcp;
use mesh_types::{Code, Problem};
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, RoleClient, RunningService, ServiceError,
    serve_client_with_lifecycle,
};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::process::Process;
use crate::failure;
use crate::guard::Refused;
use crate::web::Web;

/// Servers kept at once.
const SERVERS_MAX: usize = 64;
/// Idle servers are looked for so many times in the time after which one is ended.
const LOOKS: u32 = 5;
type HttpError = StreamableHttpError<reqwest::Error>;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// All that are kept. Dropped, it ends them at once.
#[derive(Debug)]
pub(crate) struct Servers {
    kept: Arc<Kept>,
    idle: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Kept {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_place: HashMap<Place, Arc<Slot>>,
    is_watched: bool,
}

/// Its lock is held while the server starts, so that calls at the same time share one.
type Slot = tokio::sync::Mutex<Option<Arc<Server>>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Command(Vec<String>),
    Url(String),
}

#[derive(Debug)]
pub(crate) struct Server {
    client: RunningService<RoleClient, ClientConfig>,
    process: Option<Process>,
    place: Place,
    used_at: Mutex<Instant>,
}

impl Servers {
    pub(crate) fn new(idle: Duration) -> Self {
        let stop = CancellationToken::new();
        Self {
            kept: Arc::default(),
            idle,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// The one that runs there, or a new one.
    pub(crate) async fn of(&self, declared: &Mcp, web: &Web) -> Result<Arc<Server>, Problem> {
        let place = match (&declared.url, declared.command.is_empty()) {
            (Some(url), true) => Place::Url(url.clone()),
            (None, false) => Place::Command(declared.command.clone()),
            _ => return Err(failure::permanent("a server has either a command or a URL")),
        };
        let slot = self.slot(&place)?;
        let mut slot = slot.lock().await;
        if let Some(server) = slot.as_ref().filter(|server| server.is_alive()) {
            server.touch();
            return Ok(Arc::clone(server));
        }
        *slot = None;
        let server = Arc::new(Server::start(place, web, &self.tasks).await?);
        *slot = Some(Arc::clone(&server));
        Ok(server)
    }

    fn slot(&self, place: &Place) -> Result<Arc<Slot>, Problem> {
        let mut slots = self.kept.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.is_watched {
            slots.is_watched = true;
            let watch = watch(Arc::downgrade(&self.kept), self.idle);
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(watch));
        }
        if let Some(slot) = slots.by_place.get(place) {
            return Ok(Arc::clone(slot));
        }
        if slots.by_place.len() >= SERVERS_MAX {
            return Err(Problem::new(
                Code::Busy,
                format!("{SERVERS_MAX} servers of tools run already"),
            ));
        }
        let slot = Arc::new(Slot::default());
        slots.by_place.insert(place.clone(), Arc::clone(&slot));
        Ok(slot)
    }
}

/// Ends those that nobody has called for `idle`.
async fn watch(kept: Weak<Kept>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / LOOKS).await;
        let Some(kept) = kept.upgrade() else { return };
        for server in kept.take_idle(idle) {
            server.end().await;
        }
    }
}

impl Kept {
    /// Takes out of their places what is dead or idle; a place that is empty goes.
    fn take_idle(&self, idle: Duration) -> Vec<Server> {
        let mut taken = Vec::new();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.by_place.retain(|_, slot| {
            // Counted under the lock that hands them out: whoever else holds the slot is about to use it.
            if Arc::strong_count(slot) > 1 {
                return true;
            }
            let Ok(mut server) = slot.try_lock() else { return true };
            if server.as_ref().is_some_and(|server| server.is_wanted(idle)) {
                return true;
            }
            // The count was 1 and nobody else can reach it, so that this always gives the server.
            taken.extend(server.take().and_then(Arc::into_inner));
            false
        });
        taken
    }
}

impl Server {
    async fn start(place: Place, web: &Web, tasks: &TaskTracker) -> Result<Self, Problem> {
        let config = ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("agent-mesh", env!("CARGO_PKG_VERSION")),
        );
        // Newest protocol first; a server that does not know it is greeted in the older way.
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::LATEST],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        let (client, process) = match &place {
            Place::Command(command) => {
                let (process, output, input) = Process::start(command, tasks)
                    .map_err(|error| failure::permanent(format!("`{}` does not start: {error}", command.join(" "))))?;
                let transport = AsyncRwTransport::new_client(output, input);
                let client = serve_client_with_lifecycle(config, transport, lifecycle).await;
                let client = client.map_err(|error| place.problem(transport_of(&error), &error, Some(&process)))?;
                (client, Some(process))
            }
            Place::Url(url) => {
                let transport = StreamableHttpClientTransport::with_client(
                    web.client_for(url)?,
                    StreamableHttpClientTransportConfig::with_uri(url.as_str()),
                );
                let client = serve_client_with_lifecycle(config, transport, lifecycle).await;
                let client = client.map_err(|error| place.problem(transport_of(&error), &error, None))?;
                // Over HTTP the newest protocol wants arguments that a tool marks so in headers as well: the SDK knows
                // which from the list of tools. A server without a list is called all the same.
                let _ = client.list_all_tools().await;
                (client, None)
            }
        };
        Ok(Self {
            client,
            process,
            place,
            used_at: Mutex::new(Instant::now()),
        })
    }

    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        &self.client
    }

    /// What a failed call means: an error that the server says is final, a lost server is not.
    pub(crate) fn problem(&self, error: &ServiceError) -> Problem {
        match error {
            ServiceError::McpError(error) => failure::permanent(failure::quoted(&error.message)),
            ServiceError::TransportSend(transport) => self.place.problem(Some(transport), error, self.process.as_ref()),
            _ => self.place.problem(None, error, self.process.as_ref()),
        }
    }

    fn is_alive(&self) -> bool {
        !self.client.is_closed() && !self.client.is_transport_closed()
    }

    fn is_wanted(self: &Arc<Self>, idle: Duration) -> bool {
        let used_at = *self.used_at.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::strong_count(self) > 1 || (self.is_alive() && used_at.elapsed() < idle)
    }

    /// It is in use now.
    pub(crate) fn touch(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// In order: its input is closed, then it has a moment, then its group is killed.
    async fn end(mut self) {
        tracing::debug!(place = %self.place, "a server of tools was idle and ends");
        // Whatever comes of it, the process ends below.
        let _ = self.client.close_with_timeout(CLOSE_TIMEOUT).await;
        if let Some(process) = self.process {
            process.end().await;
        }
    }
}

impl Place {
    fn problem(
        &self,
        transport: Option<&DynamicTransportError>,
        error: &(dyn Error + 'static),
        process: Option<&Process>,
    ) -> Problem {
        let http = transport.and_then(|transport| transport.error.downcast_ref::<HttpError>());
        let said = match http {
            Some(HttpError::HttpStatus(answer)) if let Ok(status) = answer.status.try_into() => {
                let seconds = answer.retry_after.as_deref().and_then(|text| text.parse().ok());
                return failure::of_status(status, seconds, "");
            }
            Some(HttpError::AuthRequired(_) | HttpError::InsufficientScope(_)) => {
                return failure::permanent(format!("the server {self} wants a sign-in"));
            }
            Some(HttpError::UnexpectedServerResponse(_) | HttpError::UnexpectedContentType(_)) => {
                let said = http.map_or_else(String::new, |error| failure::said(error));
                return failure::permanent(format!("{self} does not answer as a server of MCP: {said}"));
            }
            Some(HttpError::ResponseBodyTooLarge { max_size }) => return failure::too_long(*max_size),
            Some(HttpError::Client(error)) => {
                if let Some(why) = failure::cause::<Refused>(error) {
                    return failure::refused(why);
                }
                // Its own text shows the URL with what it may hold; the causes do not.
                error.source().map_or_else(|| "no connection".to_owned(), failure::said)
            }
            _ => failure::said(error),
        };
        match process.map(Process::stderr).filter(|tail| !tail.is_empty()) {
            Some(tail) => failure::transient(format!("the server {self} is lost: {said}; it said: {tail}")),
            None => failure::transient(format!("the server {self} is lost: {said}")),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command) => write!(f, "`{}`", command.first().map_or("", String::as_str)),
            Self::Url(url) => f.write_str(
                &url.parse()
                    .map_or_else(|_| url.clone(), |url| crate::guard::shown(&url)),
            ),
        }
    }
}

fn transport_of(error: &ClientInitializeError) -> Option<&DynamicTransportError> {
    match error {
        ClientInitializeError::TransportError { error, .. } => Some(error),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => transport_of(fallback),
        _ => None,
    }
}
