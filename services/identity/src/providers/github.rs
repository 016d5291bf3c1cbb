//! GitHub's OAuth, which is no OpenID Connect: who somebody is says its API, by the id that stays when a login changes.

use mesh_types::Problem;
use reqwest::Url;
use serde::Deserialize;

use super::oidc::challenge;
use super::{External, Provider, http};
use crate::store::external::OnItsWay;

const WEB: &str = "https://github.com";
const API: &str = "https://api.github.com";

#[derive(Deserialize)]
struct Token {
    /// Absent where it refuses, which it does with a 200.
    #[serde(default)]
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    verified: bool,
    #[serde(default)]
    primary: bool,
}

fn address<'a>(own: &'a str, usual: &'a str) -> &'a str {
    if own.is_empty() {
        usual
    } else {
        own.trim_end_matches('/')
    }
}

pub(super) fn location(provider: &Provider, way: &OnItsWay, given: &str) -> Result<String, Problem> {
    let url = Url::parse(&format!("{}/login/oauth/authorize", address(&provider.issuer, WEB)));
    let mut url = url.map_err(|_| http::unavailable("its address is none"))?;
    url.query_pairs_mut()
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &way.redirect_uri)
        .append_pair("scope", "read:user user:email")
        .append_pair("state", given)
        .append_pair("code_challenge", &challenge(&way.verifier))
        .append_pair("code_challenge_method", "S256");
    Ok(url.into())
}

pub(super) async fn who(provider: &Provider, way: &OnItsWay, code: &str) -> Result<External, Problem> {
    let (client, url) = http::client(&format!("{}/login/oauth/access_token", address(&provider.issuer, WEB)))?;
    let fields = [
        ("client_id", provider.client_id.as_str()),
        ("client_secret", provider.client_secret.expose().as_str()),
        ("code", code),
        ("redirect_uri", way.redirect_uri.as_str()),
        ("code_verifier", way.verifier.as_str()),
    ];
    let token: Token = http::json(http::form(client.post(url), &fields)).await?;
    let refused = || http::refused("the provider refused the sign-in");
    let token = token.access_token.ok_or_else(refused)?;
    let api = address(&provider.api, API);
    let (client, url) = http::client(&format!("{api}/user"))?;
    let user: User = http::json(client.get(url).bearer_auth(&token)).await?;
    let (client, url) = http::client(&format!("{api}/user/emails"))?;
    let mut emails: Vec<Email> = http::json(client.get(url).bearer_auth(&token)).await?;
    emails.retain(|email| email.verified);
    emails.sort_by_key(|email| !email.primary);
    Ok(External {
        subject: user.id.to_string(),
        emails: emails.into_iter().map(|email| email.email.to_lowercase()).collect(),
        name: user.name.unwrap_or_default(),
        login: Some(user.login),
    })
}
