//! `provider-start`, `provider-finish`: to another provider and back.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_api::Caller;
use mesh_api::identity::{
    AuditEntry, AuditOutcome, Membership, ProviderFinishRequest, ProviderFinished, ProviderStartRequest,
    ProviderStarted,
};
use mesh_types::{Code, Problem};
use reqwest::Url;
use serde_json::{Value, json};

use super::users::add;
use crate::credential::hash;
use crate::people::sessions::{self, Entrance};
use crate::providers::{External, Provider, http, local_path, login_for};
use crate::state::{State, failed, random};
use crate::store::external::{self as store, OnItsWay};
use crate::store::people::{self, Known};
use crate::store::turn_to;

/// How long somebody may take at the other provider.
const PATIENCE: Duration = Duration::from_secs(600);
/// Logins that are tried for somebody who comes for the first time.
const LOGINS_TRIED: u32 = 50;
/// Bytes of a code, and of what comes with it.
const CODE_BYTES_MAX: usize = 2_048;
const NAME_CHARS_MAX: usize = 200;

pub(super) async fn start(
    state: Arc<State>,
    _: Caller,
    request: ProviderStartRequest,
) -> Result<ProviderStarted, Problem> {
    let provider = find(&state, &request.provider)?;
    let return_to = local_path(&request.return_to).ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "return_to must be a path of this server").field("return_to")
    })?;
    let base = base(&state, &request.asked_at)?;
    let text = |bytes: [u8; 32]| URL_SAFE_NO_PAD.encode(bytes);
    let (given, binding) = (text(random()), text(random()));
    let way = OnItsWay {
        provider: provider.id.clone(),
        verifier: text(random()),
        nonce: text(random()),
        redirect_uri: format!("{base}/api/v1/auth/providers/{}/callback", provider.id),
        return_to: return_to.to_owned(),
        expires_at: state.context.clock.now().plus(PATIENCE),
    };
    let location = provider.location(&state, &way, &given).await?;
    let doing = "keeping a sign-in on its way";
    let mut tx = state.begin_for_all().await?;
    store::put(&mut tx, &hash(&given), &hash(&binding), &way)
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    Ok(ProviderStarted { location, binding })
}

pub(super) async fn finish(
    state: Arc<State>,
    caller: Caller,
    request: ProviderFinishRequest,
) -> Result<ProviderFinished, Problem> {
    let provider = find(&state, &request.provider)?;
    let way = take(&state, &request).await?;
    let external = match provider.who(&state, &way, &request.code).await {
        Ok(external) => external,
        Err(problem) => {
            if problem.is(Code::Unauthorized) {
                note_refused(&state, &caller, provider, &request.address, &problem.detail).await;
            }
            return Err(problem);
        }
    };
    let memberships = provider.memberships(&external);
    if memberships.is_empty() {
        note_refused(
            &state,
            &caller,
            provider,
            &request.address,
            "no rule lets that person in",
        )
        .await;
        let detail = format!("{} knows you, this mesh does not", provider.shown_name());
        return Err(Problem::new(Code::Forbidden, detail)
            .next("ask who runs it for a place in identity.providers.allow, or for a login"));
    }
    let known = match known(&state, provider, &external).await? {
        Some(known) => known,
        None => first_time(&state, &caller, provider, &external, &memberships).await?,
    };
    if known.disabled {
        note_refused(&state, &caller, provider, &request.address, "the person is disabled").await;
        return Err(Problem::new(Code::Unauthorized, "this login is disabled").next("ask an owner of your tenant"));
    }
    let entrance = Entrance {
        by: &provider.id,
        address: &request.address,
        request_id: caller.request_id,
    };
    let signed_in = sessions::begin(&state, &known, None, &entrance).await?;
    Ok(ProviderFinished {
        signed_in,
        return_to: way.return_to,
    })
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a Provider, Problem> {
    let found = state.config.providers.iter().find(|provider| provider.id == id);
    found.ok_or_else(|| {
        Problem::new(Code::CredentialNotFound, "there is no such sign-in provider")
            .field("id")
            .next("GET /api/v1/auth/methods lists them")
    })
}

/// Where this mesh is for a browser. What a request says of that is believed for this machine only: the provider would
/// send the code there.
fn base(state: &State, asked_at: &str) -> Result<String, Problem> {
    let own = state.config.public_url.trim_end_matches('/');
    if !own.is_empty() {
        return Ok(own.to_owned());
    }
    let asked = Url::parse(asked_at).ok().filter(http::is_loopback);
    asked.map(|url| url.origin().ascii_serialization()).ok_or_else(|| {
        Problem::new(Code::Unavailable, "the mesh does not know its own address")
            .next("set identity.public_url, such as https://mesh.example.org")
    })
}

async fn take(state: &State, request: &ProviderFinishRequest) -> Result<OnItsWay, Problem> {
    let wrong = || {
        Problem::new(
            Code::Unauthorized,
            "this sign-in was not begun in this browser, or ten minutes ago",
        )
        .next("sign in again")
    };
    let parts = [&request.code, &request.state, &request.binding];
    if parts.iter().any(|part| part.is_empty() || part.len() > CODE_BYTES_MAX) {
        return Err(wrong());
    }
    let doing = "taking a sign-in on its way";
    let mut tx = state.begin_for_all().await?;
    let way = store::take(&mut tx, &hash(&request.state), &hash(&request.binding))
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    let now = state.context.clock.now();
    way.filter(|way| way.provider == request.provider && way.expires_at > now)
        .ok_or_else(wrong)
}

async fn known(state: &State, provider: &Provider, external: &External) -> Result<Option<Known>, Problem> {
    let doing = "reading who somebody is elsewhere";
    let mut tx = state.begin_for_all().await?;
    let id = store::person(&mut *tx, &provider.id, &external.subject)
        .await
        .map_err(failed(doing))?;
    match id {
        Some(id) => people::by_id(&mut *tx, id).await.map_err(failed(doing)),
        None => Ok(None),
    }
}

/// A new person. One who has a login here already is another one until somebody says otherwise: an address is no proof
/// that both are the same.
async fn first_time(
    state: &State,
    caller: &Caller,
    provider: &Provider,
    external: &External,
    memberships: &[Membership],
) -> Result<Known, Problem> {
    let doing = "storing a person";
    let home = &memberships[0].tenant;
    let now = state.context.clock.now();
    let by = format!("provider:{}", provider.id);
    let mut tx = state.begin_for_all().await?;
    let known = Known {
        id: state.context.ids.next(),
        home: home.clone(),
        login: free_login(&mut tx, external).await?,
        name: external
            .name
            .chars()
            .filter(|c| !c.is_control())
            .take(NAME_CHARS_MAX)
            .collect(),
        password: None,
        disabled: false,
    };
    for (place, membership) in memberships.iter().enumerate() {
        turn_to(&mut tx, Some(&membership.tenant))
            .await
            .map_err(failed(doing))?;
        if place == 0 {
            add(&mut tx, &known, membership, now, &by).await?;
        } else {
            people::add_member(&mut tx, known.id, membership, now, &by)
                .await
                .map_err(failed(doing))?;
        }
        let entry = AuditEntry {
            outcome: AuditOutcome::Done,
            actor: by.clone(),
            action: "user.create".into(),
            subject: known.id.to_string(),
            reason: String::new(),
            before: Value::Null,
            after: json!({"login": known.login, "name": known.name, "role": membership.role}),
            request_id: caller.request_id.map(|id| id.to_string()),
        };
        state.note(&mut tx, &membership.tenant, entry).await?;
    }
    turn_to(&mut tx, None).await.map_err(failed(doing))?;
    store::link(&mut tx, &provider.id, &external.subject, known.id, now)
        .await
        .map_err(failed(doing))?;
    state.commit(tx).await?;
    Ok(known)
}

async fn free_login(tx: &mut sqlx::PgConnection, external: &External) -> Result<String, Problem> {
    for number in 1..=LOGINS_TRIED {
        let login = login_for(external, number);
        let taken = people::by_login(&mut *tx, &login)
            .await
            .map_err(failed("reading a person"))?;
        // Nor a name that keys or nodes are owned by: they would be the newcomer's.
        let owns = people::owns_credentials(&mut *tx, &login)
            .await
            .map_err(failed("reading owners"))?;
        if taken.is_none() && !owns {
            return Ok(login);
        }
    }
    let detail = "every login that would fit is taken";
    Err(Problem::new(Code::UserAlreadyExists, detail).next("ask an owner of your tenant for a login"))
}

async fn note_refused(state: &State, caller: &Caller, provider: &Provider, address: &str, reason: &str) {
    let entry = AuditEntry {
        actor: "anonymous".into(),
        action: "session.begin".into(),
        subject: format!("provider:{}", provider.id),
        outcome: AuditOutcome::Refused,
        reason: reason.to_owned(),
        before: Value::Null,
        after: json!({"address": address}),
        request_id: caller.request_id.map(|id| id.to_string()),
    };
    state.note_refused(&caller.tenant, entry).await;
}
