//! Who listens: by a ticket in the address, by the usual headers, or in development mode by nothing. What it was opened
//! with is asked about again while it is open.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use futures::future::BoxFuture;
use mesh_api::identity::{Principal, PrincipalKind, Standing, StandingRequest, TicketRedeem, TicketRedeemRequest};
use mesh_api::{Caller, Role};
use mesh_types::{Code, Tenant};

use crate::config::Config;
use crate::http::credentials::{SignedIn, Who, caller_of, credential_of, unauthorized, verify};
use crate::http::problem::Failure;
use crate::http::shares::{Share, Shares};
use crate::hub::Topic;
use crate::state::App;

/// Between two looks, which ask what is known for some seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Looks between two questions about a session: a question every eight seconds, as credentials are believed.
const LOOKS_PER_QUESTION: u32 = 4;
const VISITORS_KNOWN_MAX: usize = 100_000;

/// What it was opened with.
#[derive(Clone)]
enum Proof {
    /// Development mode.
    None,
    Credential(String),
    /// A session or key, by its id.
    Standing(String),
}

pub(in crate::http) struct Visitor {
    pub(super) caller: Caller,
    /// Empty: all.
    scopes: Vec<String>,
    proof: Proof,
    looks: u32,
}

/// Connections that are open, of all, of each tenant and of each principal.
pub(crate) struct Visitors {
    places: Shares,
    of: Mutex<HashMap<String, usize>>,
    per_principal_max: usize,
    /// Open ones of each [`Line`].
    open: Mutex<[usize; Line::WORDS.len()]>,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    WebSocket,
    Events,
}

impl Line {
    /// As the metric calls them; `sse` are the streams of single invocations.
    const WORDS: [&'static str; 2] = ["websocket", "events"];
}

/// The right to one connection.
pub(super) struct Place {
    app: App,
    principal: Option<String>,
    line: Line,
    _share: Share,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app
            .visitors
            .show(&self.app, self.line, |open| open.saturating_sub(1));
        let Some(principal) = &self.principal else { return };
        let mut of = self.app.visitors.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                of.remove(principal);
            }
        }
    }
}

impl Visitors {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            places: Shares::new("live connections", config.live.clients_max, config.require_credentials),
            of: Mutex::default(),
            per_principal_max: config.live.clients_per_principal_max,
            open: Mutex::default(),
        }
    }

    /// The figure is set under the lock: the last one told is the last one true.
    fn show(&self, app: &App, line: Line, change: impl FnOnce(usize) -> usize) {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut all[line as usize];
        *open = change(*open);
        let told = i64::try_from(*open).unwrap_or(i64::MAX);
        app.live_connections.set(told, &[("kind", Line::WORDS[line as usize])]);
    }
}

impl Visitor {
    /// By ticket, else by the headers.
    pub(super) async fn of(
        app: &App,
        ticket: Option<&str>,
        headers: &HeaderMap,
        tenant: Option<Tenant>,
        identity: Option<mesh_types::RequestId>,
    ) -> Result<Self, Failure> {
        if let Some(ticket) = ticket {
            return Self::by_ticket(app, ticket, identity).await;
        }
        if !app.desk.requires_credentials() {
            let developer = Caller {
                role: Some(Role::Owner),
                tenant: tenant.unwrap_or_default(),
                actor: "dev".into(),
                request_id: identity,
            };
            return Ok(Self::new(developer, Vec::new(), Proof::None));
        }
        let credential = credential_of(headers)?
            .ok_or_else(|| unauthorized("the request carries neither a ticket nor a credential"))?;
        let principal = verify(app, &credential).await?;
        let caller = caller_of(&principal, None);
        let caller = Caller {
            request_id: identity,
            ..Who(caller).of_tenant(app, tenant).await?
        };
        check(&principal)?;
        Ok(Self::new(caller, principal.scopes, Proof::Credential(credential)))
    }

    /// Of a request that the door has let in.
    pub(in crate::http) fn signed_in(caller: Caller, signed_in: Option<&SignedIn>) -> Self {
        match signed_in {
            None => Self::new(caller, Vec::new(), Proof::None),
            Some(SignedIn { principal, credential }) => {
                Self::new(caller, principal.scopes.clone(), Proof::Credential(credential.clone()))
            }
        }
    }

    async fn by_ticket(app: &App, ticket: &str, request_id: Option<mesh_types::RequestId>) -> Result<Self, Failure> {
        let edge = Caller::service("gateway", Tenant::default());
        let request = TicketRedeemRequest {
            ticket: ticket.to_owned(),
        };
        let redeemed = app.call::<TicketRedeem>(&edge, &request).await?;
        if let Some(principal) = &redeemed.principal {
            check(principal)?;
        } else if app.desk.requires_credentials() {
            return Err(unauthorized("the ticket was made where nobody signs in"));
        }
        let proof = match redeemed.standing {
            Some(id) => Proof::Standing(id),
            None if app.desk.requires_credentials() => return Err(unauthorized("the ticket is nobody's")),
            None => Proof::None,
        };
        let caller = Caller {
            role: Some(redeemed.role),
            tenant: redeemed.tenant,
            actor: redeemed.actor,
            request_id,
        };
        Ok(Self::new(caller, redeemed.scopes, proof))
    }

    fn new(caller: Caller, scopes: Vec<String>, proof: Proof) -> Self {
        Self {
            caller,
            scopes,
            proof,
            looks: 0,
        }
    }

    /// A place for its connection.
    ///
    /// # Errors
    /// `Busy` when the process or this principal holds as many as it may, `RateLimited` when its tenant does.
    pub(super) fn enter(&self, app: &App, line: Line) -> Result<Place, Failure> {
        let visitors = &app.visitors;
        let share = visitors.places.take(&self.caller.tenant)?;
        let principal = match &self.proof {
            Proof::None => None,
            _ => Some(format!("{} {}", self.caller.tenant, self.caller.actor)),
        };
        if let Some(principal) = &principal {
            let mut of = visitors.of.lock().unwrap_or_else(PoisonError::into_inner);
            let count = of.get(principal).copied().unwrap_or_default();
            if count >= visitors.per_principal_max || of.len() >= VISITORS_KNOWN_MAX {
                let detail = format!("{count} live connections of yours are open");
                return Err(Failure::new(Code::Busy, detail).next("close some of them"));
            }
            of.insert(principal.clone(), count + 1);
        }
        visitors.show(app, line, |open| open + 1);
        Ok(Place {
            app: app.clone(),
            principal,
            line,
            _share: share,
        })
    }

    /// Whether its scopes let it read a topic.
    pub(super) fn may_read(&self, topic: &Topic) -> Result<(), Failure> {
        let tag = match topic {
            Topic::Invocations | Topic::Invocation(_) => "invocations",
            Topic::Agents => "agents",
            Topic::Nodes => "nodes",
            Topic::Passes | Topic::Services => "fleet",
            Topic::Memories => "memories",
            Topic::Knowledge => "knowledge",
            Topic::Channels | Topic::Channel(_) => "channels",
            Topic::Models => "models",
            Topic::Audit => "credentials",
            Topic::DeadLetters => "dead-letters",
        };
        let allows = |scope: &String| matches!(scope.split_once(':'), Some((name, "read" | "write")) if name == tag);
        if self.scopes.is_empty() || self.scopes.iter().any(allows) {
            return Ok(());
        }
        let detail = format!("the credential's scopes do not include `{tag}:read`, which `{topic}` needs");
        Err(Failure::new(Code::Forbidden, detail))
    }

    /// Resolves when what it was opened with is not good any more.
    pub(in crate::http) async fn until_revoked(mut self, app: App) {
        if let Proof::None = self.proof {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if let Some(look) = self.look(&app)
                && !look.await
            {
                return;
            }
        }
    }

    /// A look at what it was opened with: resolves to whether it is still good. `None`: nothing to ask this time.
    pub(super) fn look(&mut self, app: &App) -> Option<BoxFuture<'static, bool>> {
        self.looks = self.looks.wrapping_add(1);
        let (app, caller) = (app.clone(), self.caller.clone());
        match self.proof.clone() {
            Proof::None => None,
            Proof::Credential(credential) => Some(Box::pin(async move {
                match verify(&app, &credential).await {
                    Ok(principal) => principal.tenant == caller.tenant && principal.role == caller.role,
                    Err(failure) => !is_refusal(&failure),
                }
            })),
            Proof::Standing(_) if !self.looks.is_multiple_of(LOOKS_PER_QUESTION) => None,
            Proof::Standing(id) => Some(Box::pin(async move {
                let edge = Caller::service("gateway", caller.tenant.clone());
                match app.call::<Standing>(&edge, &StandingRequest { id }).await {
                    Ok(view) => view.tenant == caller.tenant && Some(view.role) == caller.role,
                    Err(failure) => !is_refusal(&failure),
                }
            })),
        }
    }
}

/// That nobody could be asked is no refusal: it may pass.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.0.status, 401 | 403 | 404)
}

/// Pushes are for people and their programs.
fn check(principal: &Principal) -> Result<(), Failure> {
    let is_person = matches!(principal.kind, PrincipalKind::User | PrincipalKind::Key);
    if is_person && principal.role.is_some_and(|role| role.covers(Role::Viewer)) {
        return Ok(());
    }
    Err(Failure::new(Code::Forbidden, "live pushes are for people and API keys"))
}
