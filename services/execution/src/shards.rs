//! Which shard an invocation belongs to. Stored on the row and fixed at installation: this function never changes.

use mesh_types::{AgentName, InvocationId, Tenant};

/// Number of shards of an installation (EXECUTION.md §1).
pub const SHARDS: u16 = 16;

/// A shard's number, below [`SHARDS`].
pub type ShardId = u16;

/// hash(tenant, agent, session); without a session hash(tenant, key); without a key hash(id).
pub fn shard_of(
    tenant: &Tenant,
    agent: &AgentName,
    session: Option<&str>,
    key: Option<&str>,
    id: InvocationId,
) -> ShardId {
    let id = id.to_string();
    let parts: [&str; 4] = match (session, key) {
        (Some(session), _) => ["session", tenant.as_str(), agent.as_str(), session],
        (None, Some(key)) => ["key", tenant.as_str(), key, ""],
        (None, None) => ["id", &id, "", ""],
    };
    let mut hash = FNV_OFFSET;
    for part in parts {
        for byte in part.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        // A byte that no UTF-8 text holds keeps ("ab","c") and ("a","bc") apart.
        hash = (hash ^ 0xff).wrapping_mul(FNV_PRIME);
    }
    // FNV's low bits mix worst; fold the high half in.
    u16::try_from((hash ^ (hash >> 32)) % u64::from(SHARDS)).unwrap_or(0)
}

/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>. Stable over builds and machines, which std's is not.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_types::Id;

    fn of(session: Option<&str>, key: Option<&str>, id: u128) -> ShardId {
        shard_of(
            &"t".parse().unwrap(),
            &"a".parse().unwrap(),
            session,
            key,
            InvocationId::from_u128(id),
        )
    }

    /// Golden values: a change here would orphan every keyed invocation of every installation.
    #[test]
    fn the_hash_never_changes() {
        let seen: Vec<_> = (0..8).map(|n| of(None, None, n)).collect();
        let keyed: Vec<_> = ["a", "b", "order-1", "ключ"].map(|k| of(None, Some(k), 0)).to_vec();
        let sessions: Vec<_> = ["a", "b"].map(|s| of(Some(s), Some("ignored"), 0)).to_vec();
        assert_eq!((seen, keyed, sessions), golden());
    }

    fn golden() -> (Vec<u16>, Vec<u16>, Vec<u16>) {
        (vec![5, 3, 12, 8, 6, 11, 13, 13], vec![3, 14, 3, 3], vec![0, 7])
    }

    #[test]
    fn shards_are_used_evenly() {
        let mut counts = [0_u32; SHARDS as usize];
        for n in 0..16_000_u128 {
            counts[usize::from(of(None, None, n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c)))] += 1;
        }
        assert!(counts.iter().all(|count| (850..=1150).contains(count)), "{counts:?}");
    }
}
