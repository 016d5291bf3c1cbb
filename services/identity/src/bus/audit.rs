//! `audit-note`, `audit-list`, `audit-verify`.

use std::sync::Arc;

use mesh_api::audit::{AuditBreak, AuditVerified, AuditVerifyRequest};
use mesh_api::identity::{AuditEntry, AuditFact, AuditNoted, AuditOutcome, AuditQuery};
use mesh_api::{Caller, Page};
use mesh_types::{Code, EventId, Problem};

use super::{Reach, parse};
use crate::audit::chain::{Break, Hash, Walk};
use crate::audit::link::as_hash;
use crate::state::{State, failed};
use crate::store::{audit as store, audit_chain};

/// Facts that are read at once.
const PAGE: i64 = 1_000;

pub(super) async fn note(state: Arc<State>, caller: Caller, entry: AuditEntry) -> Result<AuditNoted, Problem> {
    match entry.outcome {
        AuditOutcome::Refused => state.note_refused(&caller.tenant, entry).await,
        AuditOutcome::Done => state.note_alone(&caller.tenant, entry).await?,
    }
    Ok(AuditNoted {})
}

/// Newest first. Who is no administrator sees what he did himself.
pub(super) async fn list(state: Arc<State>, caller: Caller, query: AuditQuery) -> Result<Page<AuditFact>, Problem> {
    let reach = Reach::of(&caller)?;
    let after = query.page.after.as_deref();
    let wanted = store::Wanted {
        outcome: query.outcome,
        action: query.action.as_deref(),
        actor: reach.owner().map(|_| caller.actor.as_str()),
        before: after.map(|text| parse::<EventId>(text, "after")).transpose()?,
    };
    let limit = query.page.limit();
    let mut tx = state.begin(&caller.tenant).await?;
    let facts = store::list(&mut *tx, &wanted, i64::from(limit) + 1)
        .await
        .map_err(failed("listing audit facts"))?;
    Ok(Page::cut(facts, limit, |fact| fact.id.clone()))
}

pub(super) async fn verify(
    state: Arc<State>,
    caller: Caller,
    request: AuditVerifyRequest,
) -> Result<AuditVerified, Problem> {
    if matches!(Reach::of(&caller)?, Reach::Own(_)) {
        return Err(Problem::new(
            Code::Forbidden,
            "only an owner checks the audit of a tenant",
        ));
    }
    let noted = request.noted.as_deref().map(noted).transpose()?;
    let doing = "reading the audit's chain";
    let tenant = caller.tenant.as_str();
    let mut tx = state.begin(&caller.tenant).await?;
    // Chaining and pruning wait meanwhile, noting does not.
    let ends = audit_chain::lock(&mut tx, tenant).await.map_err(failed(doing))?;
    let unchained = audit_chain::count_unchained(&mut *tx, tenant)
        .await
        .map_err(failed(doing))?;
    let mut walk = Walk::from(ends.base_seq, as_hash(&ends.base_hash)?, noted);
    let broken = loop {
        let facts = audit_chain::chained(&mut *tx, tenant, walk.seq, PAGE)
            .await
            .map_err(failed(doing))?;
        if facts.is_empty() {
            break walk.end((ends.seq, &ends.hash)).err();
        }
        if let Some(broken) = facts.iter().find_map(|fact| walk.step(fact).err()) {
            break Some(broken);
        }
    };
    let place = |n: i64| u64::try_from(n).unwrap_or_default();
    Ok(AuditVerified {
        intact: broken.is_none(),
        checked: walk.checked,
        pruned: place(ends.base_seq),
        unchained: place(unchained),
        head: format!("{}:{}", ends.seq, hex(&ends.hash)),
        broken: broken.map(|Break { seq, id, why }| AuditBreak {
            seq: place(seq),
            id,
            why: why.to_owned(),
        }),
    })
}

/// `<seq>:<hash in hex>`.
fn noted(text: &str) -> Result<(i64, Hash), Problem> {
    let read = || {
        let (seq, hash) = text.trim().split_once(':')?;
        let seq: i64 = seq.parse().ok().filter(|seq| *seq >= 0)?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hash.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some((seq, bytes))
    };
    read().ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "a noted place is `<seq>:<64 hex digits>`")
            .field("noted")
            .next("give the `head` that an earlier `mesh audit verify` printed")
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noted_place_is_read_as_it_is_printed() {
        let hash: Hash = std::array::from_fn(|n| u8::try_from(n * 8).unwrap());
        assert_eq!(noted(&format!(" 7:{} ", hex(&hash))), Ok((7, hash)));
        for wrong in ["", "7", "7:", "-1:00", "x:y", &format!("7:{}+1", "0".repeat(62))] {
            assert!(noted(wrong).is_err(), "{wrong}");
        }
    }
}
