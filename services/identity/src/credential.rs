//! What credentials look like, which id they name, how they are hashed and compared. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_bus::permissions::USER_PREFIX;
use mesh_types::id::{JoinTokenId, KeyId, UserId};
use mesh_types::{Id, NodeId};
use sha2::{Digest, Sha256};

/// SHA-256 of a whole credential: all that is kept of one. A credential has 256 random bits, so nothing slower is
/// needed.
pub(crate) type Hash = [u8; 32];

const KEY: &str = "mak_";
const JOIN_TOKEN: &str = "mjt_";
const NODE: &str = "mns_";
const REFRESH: &str = "mrt_";
const TICKET: &str = "mtk_";
const RANDOM_CHARS: usize = 43;

/// What a text claims to be; whether it is, its hash tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claimed {
    Key(KeyId),
    JoinToken(JoinTokenId),
    Node,
}

/// The form of a credential and its hash; `None` for any other text.
pub(crate) fn parse(text: &str) -> Option<(Claimed, Hash)> {
    let of = |prefix: &str| {
        let (ulid, random) = text.strip_prefix(prefix)?.split_once('_')?;
        is_random(random).then_some(ulid)
    };
    let claimed = if let Some(ulid) = of(KEY) {
        Claimed::Key(format!("{}{ulid}", KeyId::PREFIX).parse().ok()?)
    } else if let Some(ulid) = of(JOIN_TOKEN) {
        Claimed::JoinToken(format!("{}{ulid}", JoinTokenId::PREFIX).parse().ok()?)
    } else if text.strip_prefix(NODE).is_some_and(is_random) {
        Claimed::Node
    } else {
        return None;
    };
    Some((claimed, hash(text)))
}

fn is_random(text: &str) -> bool {
    text.len() == RANDOM_CHARS
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

pub(crate) fn key_secret(id: KeyId, random: [u8; 32]) -> String {
    format!("{KEY}{}_{}", id.ulid(), URL_SAFE_NO_PAD.encode(random))
}

pub(crate) fn join_token_secret(id: JoinTokenId, random: [u8; 32]) -> String {
    format!("{JOIN_TOKEN}{}_{}", id.ulid(), URL_SAFE_NO_PAD.encode(random))
}

pub(crate) fn node_secret(random: [u8; 32]) -> String {
    format!("{NODE}{}", URL_SAFE_NO_PAD.encode(random))
}

pub(crate) fn refresh_token(random: [u8; 32]) -> String {
    format!("{REFRESH}{}", URL_SAFE_NO_PAD.encode(random))
}

pub(crate) fn ticket(random: [u8; 32]) -> String {
    format!("{TICKET}{}", URL_SAFE_NO_PAD.encode(random))
}

/// The hash of a text that has the form of a refresh token.
pub(crate) fn parse_refresh(text: &str) -> Option<Hash> {
    text.strip_prefix(REFRESH).is_some_and(is_random).then(|| hash(text))
}

/// The hash of a text that has the form of a ticket.
pub(crate) fn parse_ticket(text: &str) -> Option<Hash> {
    text.strip_prefix(TICKET).is_some_and(is_random).then(|| hash(text))
}

pub(crate) fn hash(secret: &str) -> Hash {
    Sha256::digest(secret).into()
}

/// In a time that does not depend on where they differ.
pub(crate) fn is_same(known: &[u8], given: &Hash) -> bool {
    known.len() == given.len() && known.iter().zip(given).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

/// A name that a node may have: none that another credential or a service has on NATS, whose answers it could hear
/// otherwise.
pub(crate) fn is_free_for_nodes(node: &NodeId) -> bool {
    let taken = [KeyId::PREFIX, JoinTokenId::PREFIX, UserId::PREFIX, USER_PREFIX];
    let is_taken = taken.iter().any(|prefix| node.as_str().starts_with(prefix));
    !is_taken
        && mesh_bus::permissions::all()
            .iter()
            .all(|user| user.user != node.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_names_its_id_and_nothing_else_is_one() {
        let (key, token) = (KeyId::from_u128(7), JoinTokenId::from_u128(8));
        let secret = key_secret(key, [255; 32]);
        assert_eq!(parse(&secret), Some((Claimed::Key(key), hash(&secret))));
        let secret = join_token_secret(token, [1; 32]);
        assert_eq!(parse(&secret), Some((Claimed::JoinToken(token), hash(&secret))));
        assert!(secret.starts_with("mjt_00000000000000000000000008_") && secret.len() == 4 + 26 + 1 + 43);
        let secret = node_secret([0; 32]);
        assert_eq!(parse(&secret).unwrap().0, Claimed::Node);
        for wrong in [
            "",
            "mak_",
            "mns_short",
            "mjt_x_y",
            &secret[1..],
            &format!("{secret}A"),
            "key_1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let cut = key_secret(key, [9; 32]);
        assert_eq!(parse(&cut[..cut.len() - 1]), None);
    }

    #[test]
    fn a_secret_whose_random_part_has_underscores_is_read_whole() {
        // Base 64 of these bytes is `_` throughout.
        let secret = key_secret(KeyId::from_u128(1), [255; 32]);
        assert!(secret.ends_with('_') || secret.contains("____"), "{secret}");
        assert!(parse(&secret).is_some());
    }

    #[test]
    fn hashes_are_compared_whole() {
        let known = hash("a");
        assert!(is_same(&known, &hash("a")) && !is_same(&known, &hash("b")));
        let mut last = known;
        last[31] ^= 1;
        assert!(!is_same(&known, &last) && !is_same(&known[..31], &known) && !is_same(&[], &known));
    }

    #[test]
    fn a_node_is_not_named_like_a_credential() {
        let free = |name: &str| is_free_for_nodes(&name.parse().unwrap());
        assert!(free("kitchen") && free("nod_01ARZ3NDEKTSV4RRFFQ69G5FAV") && free("keyboard"));
        assert!(!free("key_01ARZ3NDEKTSV4RRFFQ69G5FAV") && !free("jtk_x") && !free("usr_x"));
        assert!(!free("svc_registry") && !free("svc_x") && !free("mesh") && free("registry") && free("mesh-2"));
    }

    #[test]
    fn what_signs_in_and_what_opens_a_stream_is_no_credential() {
        let (refresh, ticket) = (refresh_token([1; 32]), ticket([2; 32]));
        assert_eq!(parse_refresh(&refresh), Some(hash(&refresh)));
        assert_eq!(parse_ticket(&ticket), Some(hash(&ticket)));
        for text in [&refresh, &ticket] {
            assert_eq!(parse(text), None);
        }
        assert!(parse_refresh(&ticket).is_none() && parse_ticket(&refresh).is_none() && parse_ticket("mtk_").is_none());
    }
}
