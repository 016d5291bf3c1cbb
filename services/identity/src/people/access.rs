//! Access tokens: signed claims (RFC 7519) with Ed25519 (RFC 8037). Only this form, only our keys; what a token says
//! of its own signature is not believed. Pure.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_api::Role;
use mesh_types::Tenant;
use mesh_types::id::{SessionId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Bytes of a whole token at most.
const TOKEN_BYTES_MAX: usize = 1_024;
/// By how much another process's clock may be ahead, in seconds.
const AHEAD_SECONDS: u64 = 60;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: UserId,
    pub(crate) tenant: Tenant,
    /// For whoever reads the token; what counts is the role that is stored.
    pub(crate) role: Role,
    pub(crate) sid: SessionId,
    /// Seconds since the epoch.
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// A token that has the form of ours, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unverified<'a> {
    pub(crate) kid: String,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Signs and knows what it signed.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    pub(crate) kid: String,
}

impl Signer {
    /// `None` where the seed has not 32 bytes.
    pub(crate) fn new(kid: &str, seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let kid = kid.to_owned();
        Some(Self { pair, kid })
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.kid, "typ": "JWT"}).to_string();
        let claims = serde_json::to_string(claims).expect("claims are plain data");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// The claims of a token that this key signed and whose time is now.
    pub(crate) fn read(&self, token: &Unverified<'_>, now_seconds: u64) -> Result<Claims, &'static str> {
        let key = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        if token.kid != self.kid || key.verify(token.signed.as_bytes(), &token.signature).is_err() {
            return Err("not signed here");
        }
        let claims: Claims = serde_json::from_slice(&token.payload).map_err(|_| "not as signed here")?;
        if claims.iat > now_seconds + AHEAD_SECONDS {
            return Err("of the future");
        }
        if claims.exp <= now_seconds {
            return Err("expired");
        }
        Ok(claims)
    }
}

/// Whether a text claims to be a token at all.
pub(crate) fn is_like(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The form only: three parts, `EdDSA`, a key's name.
pub(crate) fn parse(text: &str) -> Option<Unverified<'_>> {
    if text.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != "EdDSA" || header.typ != "JWT" {
        return None;
    }
    Some(Unverified {
        kid: header.kid,
        signed,
        payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;

    use super::*;

    const NOW: u64 = 1_795_258_800;

    fn claims() -> Claims {
        Claims {
            sub: UserId::from_u128(1),
            tenant: Tenant::default(),
            role: Role::Developer,
            sid: SessionId::from_u128(2),
            iat: NOW,
            exp: NOW + 600,
            jti: "j".into(),
        }
    }

    fn signer() -> Signer {
        Signer::new("k1", &[7; 32]).unwrap()
    }

    fn encoded(header: serde_json::Value, payload: &serde_json::Value, signature: &[u8]) -> String {
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!(
            "{}.{}.{}",
            part(&header),
            part(payload),
            URL_SAFE_NO_PAD.encode(signature)
        )
    }

    #[test]
    fn a_token_is_believed_for_its_time() {
        let text = signer().sign(&claims());
        assert!(is_like(&text) && text.len() < TOKEN_BYTES_MAX, "{text}");
        let token = parse(&text).unwrap();
        assert_eq!(signer().read(&token, NOW + 599), Ok(claims()));
        assert_eq!(signer().read(&token, NOW + 600), Err("expired"));
        assert_eq!(signer().read(&token, NOW - 100), Err("of the future"));
    }

    #[test]
    fn a_token_of_another_key_or_with_another_word_in_it_is_not() {
        let text = signer().sign(&claims());
        let token = parse(&text).unwrap();
        for (kid, seed) in [("k1", [8; 32]), ("k2", [7; 32])] {
            assert!(Signer::new(kid, &seed).unwrap().read(&token, NOW).is_err());
        }
        let mut more = claims();
        more.role = Role::Owner;
        let other = signer().sign(&more);
        let (head, rest) = text.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let body = other.split('.').nth(1).unwrap();
        let forged = format!("{head}.{body}.{signature}");
        assert!(signer().read(&parse(&forged).unwrap(), NOW).is_err());
        assert!(Signer::new("k1", &[7; 31]).is_none());
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        let payload = serde_json::to_value(claims()).unwrap();
        for alg in ["none", "None", "HS256", "RS256", "ES256", "eddsa", ""] {
            let text = encoded(json!({"alg": alg, "kid": "k1", "typ": "JWT"}), &payload, b"x");
            assert_eq!(parse(&text), None, "{alg}");
        }
        for header in [
            json!({"alg": "EdDSA", "typ": "JWT"}),
            json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT", "crit": ["exp"]}),
            json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT", "jwk": {}}),
        ] {
            assert_eq!(parse(&encoded(header.clone(), &payload, b"x")), None, "{header}");
        }
        let unsigned = encoded(json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"}), &payload, b"");
        assert!(signer().read(&parse(&unsigned).unwrap(), NOW).is_err());
        for text in ["", "a.b", "a.b.c", "ey..", &format!("ey{}", "x".repeat(2_000))] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
