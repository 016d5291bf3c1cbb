//! `edge-secret`: kept here because the edge has no database, and given to nobody else.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::identity::{EdgeSecretHeld, EdgeSecretRequest};
use mesh_types::{Code, Problem, Token};

use crate::state::{State, failed, random};
use crate::store::edge_secrets as store;

const EDGE: &str = "service:gateway";

pub(super) async fn held(
    state: Arc<State>,
    caller: Caller,
    request: EdgeSecretRequest,
) -> Result<EdgeSecretHeld, Problem> {
    if caller.actor != EDGE {
        return Err(Problem::new(Code::Forbidden, "that secret is the gateway's alone"));
    }
    let purpose: Token = request
        .purpose
        .parse()
        .map_err(|error| Problem::from(error).field("purpose"))?;
    let doing = "reading a secret of the edge";
    let mut tx = state.begin_for_all().await?;
    let now = state.context.clock.now();
    let secret = store::get_or_insert(&mut tx, purpose.as_str(), &random(), now)
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    Ok(EdgeSecretHeld {
        secret: secret.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}
