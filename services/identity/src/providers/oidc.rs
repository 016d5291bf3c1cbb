//! OpenID Connect: discovery, the code with its proof key (RFC 7636), the ID token by the issuer's keys.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mesh_types::Problem;
use reqwest::Url;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::id_token::{self, Expected, Keys};
use super::{External, Provider, http};
use crate::state::State;
use crate::store::external::OnItsWay;

/// What an issuer says of itself (OpenID Connect Discovery 1.0).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

async fn discover(provider: &Provider) -> Result<Discovery, Problem> {
    let issuer = provider.issuer.trim_end_matches('/');
    let (client, url) = http::client(&format!("{issuer}/.well-known/openid-configuration"))?;
    let found: Discovery = http::json(client.get(url)).await?;
    if found.issuer.trim_end_matches('/') != issuer {
        return Err(http::unavailable("it says that it is another one"));
    }
    Ok(found)
}

/// `S256` of RFC 7636, section 4.2.
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

pub(super) async fn location(provider: &Provider, _: &State, way: &OnItsWay, given: &str) -> Result<String, Problem> {
    let discovery = discover(provider).await?;
    let safe = Some(&discovery.authorization_endpoint).filter(|address| http::is_safe(address));
    let url = safe.and_then(|address| Url::parse(address).ok());
    let mut url = url.ok_or_else(|| http::unavailable("an address that it names is not safe"))?;
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &way.redirect_uri)
        .append_pair("scope", "openid email profile")
        .append_pair("state", given)
        .append_pair("nonce", &way.nonce)
        .append_pair("code_challenge", &challenge(&way.verifier))
        .append_pair("code_challenge_method", "S256");
    Ok(url.into())
}

pub(super) async fn who(provider: &Provider, state: &State, way: &OnItsWay, code: &str) -> Result<External, Problem> {
    let discovery = discover(provider).await?;
    let tokens = exchange(provider, &discovery, way, code).await?;
    let (client, url) = http::client(&discovery.jwks_uri)?;
    // Read each time: an issuer changes its keys without a word, and sign-ins are few.
    let keys: Keys = http::json(client.get(url)).await?;
    let expected = Expected {
        issuer: &discovery.issuer,
        client: &provider.client_id,
        nonce: &way.nonce,
        now: state.context.clock.now().as_millis() / 1_000,
    };
    let claims = id_token::read(&tokens.id_token, &keys, &expected).map_err(http::refused)?;
    Ok(External {
        emails: claims.verified_email().into_iter().collect(),
        login: claims.preferred_username.clone(),
        name: claims.name.clone().unwrap_or_default(),
        subject: claims.sub,
    })
}

async fn exchange(provider: &Provider, discovery: &Discovery, way: &OnItsWay, code: &str) -> Result<Tokens, Problem> {
    let (client, url) = http::client(&discovery.token_endpoint)?;
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", way.redirect_uri.as_str()),
        ("code_verifier", way.verifier.as_str()),
        ("client_id", provider.client_id.as_str()),
    ];
    let secret = provider.client_secret.expose();
    let mut request = client.post(url);
    if !secret.is_empty() && takes_secret_in_body(discovery) {
        fields.push(("client_secret", secret));
    } else if !secret.is_empty() {
        request = request.header("Authorization", basic(&provider.client_id, secret));
    }
    http::json(http::form(request, &fields)).await
}

/// `client_secret_basic` is what holds without a word (Core 1.0, section 9).
fn takes_secret_in_body(discovery: &Discovery) -> bool {
    let named = discovery.token_endpoint_auth_methods_supported.as_ref();
    named.is_some_and(|named| {
        let has = |method: &str| named.iter().any(|one| one == method);
        has("client_secret_post") && !has("client_secret_basic")
    })
}

/// RFC 6749, section 2.3.1: both parts as a form would write them.
fn basic(client: &str, secret: &str) -> String {
    let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", part(client), part(secret)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_secret_goes_the_way_that_the_issuer_takes() {
        let of = |methods: Option<&[&str]>| {
            takes_secret_in_body(&Discovery {
                issuer: String::new(),
                authorization_endpoint: String::new(),
                token_endpoint: String::new(),
                jwks_uri: String::new(),
                token_endpoint_auth_methods_supported: methods
                    .map(|methods| methods.iter().map(|one| (*one).to_owned()).collect()),
            })
        };
        assert!(!of(None) && !of(Some(&["client_secret_basic", "client_secret_post"])));
        assert!(of(Some(&["client_secret_post"])) && !of(Some(&["private_key_jwt"])));
        assert_eq!(basic("a:b", "c d"), format!("Basic {}", STANDARD.encode("a%3Ab:c+d")));
    }
}
