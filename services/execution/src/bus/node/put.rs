//! `put`: a part of a body, kept until the append that names it. The body goes into its record then, like any other.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_api::Endpoint;
use mesh_api::node::{NodePut, PART_BYTES_MAX, PutReply, PutRequest, Sent, Ticket};
use mesh_runtime::claim_over;
use mesh_store::IdExt;
use mesh_types::{Code, NodeId, Problem};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::state::State;
use crate::store::nodes::{self, Part, Staged};

/// Parts of one body: past it no record is kept.
const PARTS_MAX: u32 = 64;

pub(super) async fn put(state: &Arc<State>, node: NodeId, request: PutRequest) -> Result<PutReply, Problem> {
    state.nodes.tickets.check(&node, NodePut::NAME, &request.ticket).await?;
    let invalid = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    let bytes = BASE64.decode(&request.bytes).map_err(|_| invalid("bytes: no base64"))?;
    if bytes.len() > PART_BYTES_MAX || request.part >= PARTS_MAX {
        return Err(Problem::new(
            Code::BodyTooLarge,
            "a body is at most 24 MiB, in parts of 384 KiB",
        ));
    }
    let hash = hex::decode(&request.hash).map_err(|_| invalid("hash: no hexadecimal digits"))?;
    let staged = staged(&request.ticket, &hash);
    let part = Part {
        id: request.ticket.invocation,
        epoch: request.ticket.epoch,
        staged: &staged,
        part: request.part.cast_signed(),
        bytes: &bytes,
    };
    let put = nodes::put(&state.pool, part).await;
    match put.map_err(|error| mesh_store::to_problem(error, "keep a body"))? {
        Staged::Kept => Ok(PutReply {}),
        Staged::Over => Err(claim_over(&request.ticket)),
        Staged::Full => {
            let max = nodes::STAGED_BYTES_MAX / (1024 * 1024);
            let detail = format!(
                "{max} MiB of bodies of {} were sent ahead and wait for their append",
                part.id
            );
            Err(Problem::new(Code::BodyTooLarge, detail).next("append what was sent, then send the rest"))
        }
    }
}

/// Reads what was sent ahead; its place goes to `used`, to be cleared when the append is answered.
///
/// # Errors
/// `RecordRefused` where it is not what its hash says; transient ones while it cannot be read.
pub(super) async fn fetch<T: DeserializeOwned>(
    state: &State,
    ticket: &Ticket,
    sent: Sent<T>,
    used: &mut Vec<Vec<u8>>,
) -> Result<T, Problem> {
    let put = match sent {
        Sent::Here(here) => return Ok(here),
        Sent::Ahead(put) => put.put,
    };
    let refused = |why: &str| Problem::new(Code::RecordRefused, format!("the body {put} {why}"));
    let hash = hex::decode(&put).map_err(|_| refused("has no hash"))?;
    let staged = staged(ticket, &hash);
    let bytes = nodes::taken(&state.pool, ticket.invocation, &staged)
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a body"))?;
    used.push(staged);
    if Sha256::digest(&bytes)[..] != hash[..] {
        return Err(refused("was not sent ahead, or not all of it"));
    }
    serde_json::from_slice(&bytes).map_err(|error| refused(&format!("cannot be read: {error}")))
}

/// Of its own for each claim, so that nobody else can have put something else there; all of an invocation side by side.
fn staged(ticket: &Ticket, hash: &[u8]) -> Vec<u8> {
    let mut staged = Sha256::new();
    staged.update(b"put\n");
    staged.update(ticket.signature.as_bytes());
    staged.update(hash);
    [ticket.invocation.to_uuid().as_bytes(), &staged.finalize()[..]].concat()
}
