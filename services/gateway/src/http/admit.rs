//! The door of the API: where credentials are demanded, lets in who has a good one that may use the route, as often as
//! its quota allows. In development mode it stands open, and the address is this machine's.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mesh_api::identity::{Principal, PrincipalKind};
use mesh_types::Code;

use super::credentials::{SignedIn, caller_of, credential_of, note_refused, recall, unauthorized, verify};
use super::edge::RequestIdentity;
use super::limits::{Counted, Standing};
use super::needs::{Need, Refused, node_in};
use super::peer;
use super::problem::Failure;
use crate::state::App;

/// What is known of a request at the door.
struct Asked<'a> {
    method: &'a Method,
    pattern: &'a str,
    path: &'a str,
    headers: &'a HeaderMap,
    identity: Option<&'a RequestIdentity>,
    address: Counted,
}

/// Around every route of the API.
pub(super) async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if !app.desk.requires_credentials() {
        return next.run(request).await;
    }
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let asked = Asked {
        method: request.method(),
        pattern: pattern.as_ref().map_or("", MatchedPath::as_str),
        path: request.uri().path(),
        headers: request.headers(),
        identity: request.extensions().get(),
        address: Counted::Address(peer::household(peer::of(
            request.extensions(),
            request.headers(),
            &app.trusted_proxies,
        ))),
    };
    let (standing, entered) = enter(&app, &asked).await;
    let mut response = match entered {
        Ok(signed_in) => {
            if let Some(signed_in) = signed_in {
                request.extensions_mut().insert(signed_in);
            }
            next.run(request).await
        }
        Err(response) => response,
    };
    if let Some(standing) = standing {
        standing.show(response.headers_mut());
    }
    response
}

type Entered = (Option<Standing>, Result<Option<SignedIn>, Response>);

async fn enter(app: &App, asked: &Asked<'_>) -> Entered {
    let need = app.needs.get(asked.method.as_str(), asked.pattern);
    if need.is_some_and(|need| need.is_public) {
        return counted(app, std::slice::from_ref(&asked.address), None);
    }
    let signed_in = match signed_in(app, asked).await {
        Ok(signed_in) => signed_in,
        Err(refused) => return refused,
    };
    let principal = &signed_in.principal;
    let who = [
        Counted::Credential(format!("{} {}", kind_text(principal.kind), principal.id)),
        Counted::Tenant(principal.tenant.to_string()),
    ];
    let (standing, entered) = counted(app, &who, Some(signed_in.clone()));
    if entered.is_err() {
        return (standing, entered);
    }
    let allowed = match need {
        Some(need) => allowed(app, asked, need, principal)
            .await
            .map_err(IntoResponse::into_response),
        None => Err(no_such_operation(app, asked)),
    };
    (standing, allowed.map(|()| Some(signed_in)))
}

/// Takes the request out of every quota.
fn counted(app: &App, who: &[Counted], signed_in: Option<SignedIn>) -> Entered {
    match app.limits.take(who, app.clock.monotonic()) {
        Ok(standing) => (Some(standing), Ok(signed_in)),
        Err((standing, failure)) => (Some(standing), Err(failure.into_response())),
    }
}

/// Whose request this is. One without a good credential is held against its address, and an address that has no quota
/// left is not even looked up: guessing ends there.
async fn signed_in(app: &App, asked: &Asked<'_>) -> Result<SignedIn, Entered> {
    let credential = match credential_of(asked.headers) {
        Ok(Some(credential)) => credential,
        Ok(None) => {
            return Err(held_against(
                app,
                asked,
                unauthorized("the request carries no credential"),
            ));
        }
        Err(failure) => return Err(held_against(app, asked, failure)),
    };
    if let Some(principal) = recall(app, &credential) {
        return Ok(SignedIn { principal, credential });
    }
    if let Some((standing, failure)) = app.limits.is_spent(&asked.address, app.clock.monotonic()) {
        return Err((Some(standing), Err(failure.into_response())));
    }
    match verify(app, &credential).await {
        Ok(principal) => Ok(SignedIn { principal, credential }),
        Err(failure) if failure.0.status == StatusCode::UNAUTHORIZED.as_u16() => Err(held_against(app, asked, failure)),
        // Nobody's fault but the mesh's.
        Err(failure) => Err((None, Err(failure.into_response()))),
    }
}

fn held_against(app: &App, asked: &Asked<'_>, failure: Failure) -> Entered {
    let (standing, entered) = counted(app, std::slice::from_ref(&asked.address), None);
    (standing, entered.and_then(|_| Err(failure.into_response())))
}

/// Refusals of a known principal are facts of the audit.
async fn allowed(app: &App, asked: &Asked<'_>, need: &Need, principal: &Principal) -> Result<(), Failure> {
    let Err(refused) = need.check(principal, node_in(asked.pattern, asked.path)) else {
        return Ok(());
    };
    let (reason, what_to_do) = said(&refused, asked.method, principal);
    let caller = caller_of(principal, asked.identity);
    note_refused(app, &caller, "http.request", asked.path, &reason).await;
    Err(Failure::new(Code::Forbidden, reason).next(&what_to_do))
}

fn said(refused: &Refused, method: &Method, principal: &Principal) -> (String, String) {
    match refused {
        Refused::Kind => (
            format!("a {} may not {method} there", kind_text(principal.kind)),
            "use an API key, or sign in".to_owned(),
        ),
        Refused::OtherNode => (
            format!("a node may not {method} there: it speaks of itself only"),
            "use the node's own id".to_owned(),
        ),
        Refused::Role(least) => (
            format!(
                "{} may not {method} there: it takes the role {} or one above",
                principal.role.map_or("nobody", mesh_api::Role::as_str),
                least.as_str()
            ),
            "ask an owner of the tenant for the role".to_owned(),
        ),
        Refused::Scope(scope) => (
            format!("the key's scopes do not hold {scope}"),
            format!("use a key with the scope {scope}"),
        ),
    }
}

fn kind_text(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Key => "key",
        PrincipalKind::User => "user",
        PrincipalKind::JoinToken => "join token",
        PrincipalKind::Node => "node",
    }
}

/// A method that the route does not take, or a route that nothing describes: open to nobody.
fn no_such_operation(app: &App, asked: &Asked<'_>) -> Response {
    let methods = app.needs.methods(asked.pattern);
    match HeaderValue::from_str(&methods) {
        Ok(allow) if !methods.is_empty() => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allow)]).into_response(),
        _ => Failure::new(Code::Forbidden, "nothing says who may use this route").into_response(),
    }
}
