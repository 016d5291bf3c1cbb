//! ID tokens of OpenID Connect (Core 1.0, section 3.1.3.7): who somebody is, signed by one of the issuer's keys. Pure.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// By how much the issuer's clock may differ, in seconds.
const SKEW_SECONDS: u64 = 60;
/// Oldest token that is taken, in seconds.
const AGE_MAX_SECONDS: u64 = 3_600;
const SUBJECT_BYTES_MAX: usize = 255;
const TOKEN_BYTES_MAX: usize = 64 * 1_024;

/// The issuer's keys (RFC 7517).
#[derive(Debug, Deserialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// What it says of somebody.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    iss: String,
    pub(super) sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    exp: u64,
    iat: u64,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    pub(super) email: Option<String>,
    #[serde(default)]
    email_verified: Option<Flag>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) preferred_username: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Some issuers write it as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Flag {
    Is(bool),
    Text(String),
}

/// What it must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) nonce: &'a str,
    /// Seconds since the epoch.
    pub(super) now: u64,
}

impl Claims {
    /// The address, where the issuer says that it is the person's.
    pub(super) fn verified_email(&self) -> Option<String> {
        let is_verified = match &self.email_verified {
            Some(Flag::Is(flag)) => *flag,
            Some(Flag::Text(text)) => text == "true",
            None => false,
        };
        self.email
            .as_ref()
            .filter(|_| is_verified)
            .map(|email| email.to_lowercase())
    }
}

/// The claims of a token that holds; the error is fit for the audit.
pub(super) fn read(text: &str, keys: &Keys, expected: &Expected<'_>) -> Result<Claims, &'static str> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err("the ID token is too long");
    }
    let form = "the ID token has another form";
    let (signed, signature) = text.rsplit_once('.').ok_or(form)?;
    let (header, payload) = signed.split_once('.').ok_or(form)?;
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| form);
    let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| form)?;
    if header.crit.is_some() {
        return Err("the ID token demands something unknown");
    }
    let key = find(keys, &header).ok_or("the ID token is signed with no known key")?;
    if !verify(key, &header.alg, signed.as_bytes(), &part(signature)?) {
        return Err("the ID token's signature is wrong");
    }
    let claims: Claims = serde_json::from_slice(&part(payload)?).map_err(|_| form)?;
    check(&claims, expected)?;
    Ok(claims)
}

fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), &'static str> {
    let (is_for_us, is_for_others) = match &claims.aud {
        Audience::One(one) => (one == expected.client, false),
        Audience::Many(many) => (many.iter().any(|one| one == expected.client), many.len() > 1),
    };
    let azp_is_us = claims.azp.as_deref() == Some(expected.client);
    for (holds, why) in [
        (claims.iss == expected.issuer, "the ID token is of another issuer"),
        (is_for_us, "the ID token is for somebody else"),
        (
            claims.azp.is_none() && !is_for_others || azp_is_us,
            "the ID token was asked for by somebody else",
        ),
        (
            claims.exp.saturating_add(SKEW_SECONDS) > expected.now,
            "the ID token is expired",
        ),
        (
            claims.iat <= expected.now.saturating_add(SKEW_SECONDS),
            "the ID token is of the future",
        ),
        (
            claims.iat.saturating_add(AGE_MAX_SECONDS) > expected.now,
            "the ID token is old",
        ),
        (
            claims.nonce.as_deref() == Some(expected.nonce),
            "the ID token is of another sign-in",
        ),
        (
            (1..=SUBJECT_BYTES_MAX).contains(&claims.sub.len()),
            "the ID token names nobody",
        ),
    ] {
        if !holds {
            return Err(why);
        }
    }
    Ok(())
}

/// The key that the header names; without a name the only one that could have signed.
fn find<'a>(keys: &'a Keys, header: &Header) -> Option<&'a Key> {
    let kind = match header.alg.as_str() {
        "RS256" => "RSA",
        "ES256" => "EC",
        "EdDSA" => "OKP",
        _ => return None,
    };
    let mut fit = keys.keys.iter().filter(|key| {
        key.kty == kind
            && key.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && key.alg.as_deref().is_none_or(|alg| alg == header.alg)
            && header.kid.as_deref().is_none_or(|kid| key.kid.as_deref() == Some(kid))
    });
    let found = fit.next()?;
    (header.kid.is_some() || fit.next().is_none()).then_some(found)
}

fn verify(key: &Key, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
    let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let verified = match (alg, key.crv.as_deref()) {
        ("RS256", _) => part(&key.n).zip(part(&key.e)).map(|(n, e)| {
            let public = RsaPublicKeyComponents { n, e };
            public.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
        }),
        ("ES256", Some("P-256")) => part(&key.x).zip(part(&key.y)).map(|(x, y)| {
            // SEC 1, section 2.3.3: an uncompressed point.
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
        }),
        ("EdDSA", Some("Ed25519")) => {
            part(&key.x).map(|x| UnparsedPublicKey::new(&ED25519, x).verify(signed, signature))
        }
        _ => None,
    };
    matches!(verified, Some(Ok(())))
}

#[cfg(test)]
mod tests;
