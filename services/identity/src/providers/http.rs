//! How other providers are asked: over TLS, in bounded time, for bounded answers, and never elsewhere than asked.

use std::time::Duration;

use mesh_types::{Code, Problem};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Url};
use serde::de::DeserializeOwned;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 512 * 1_024;

/// An address that nobody on the way can change: TLS, or this machine.
pub(crate) fn is_safe(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(&url),
        _ => false,
    })
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A client for one address.
///
/// # Errors
/// `Unavailable` for an address that is not safe: a provider named it.
pub(super) fn client(address: &str) -> Result<(reqwest::Client, Url), Problem> {
    let url = Url::parse(address).ok().filter(|_| is_safe(address));
    let url = url.ok_or_else(|| unavailable("an address that it names is not safe"))?;
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .user_agent(concat!("mesh/", env!("CARGO_PKG_VERSION")));
    if is_loopback(&url) {
        builder = builder.no_proxy();
    }
    let client = builder.build().map_err(|_| unavailable("HTTP cannot be set up"))?;
    Ok((client, url))
}

/// The JSON that it answers.
///
/// # Errors
/// `Unauthorized` where it refuses, `Unavailable` where it fails or says nothing that can be read.
pub(super) async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Problem> {
    let sent = request.header("Accept", "application/json").send().await;
    let mut response = sent.map_err(|error| {
        // Without the address, which may hold a code.
        tracing::warn!(error = %error.without_url(), "a sign-in provider did not answer");
        unavailable("it did not answer")
    })?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|_| unavailable("its answer broke off"))?
    {
        if body.len() + piece.len() > BYTES_MAX {
            return Err(unavailable("its answer is too large"));
        }
        body.extend_from_slice(&piece);
    }
    if status.is_client_error() {
        tracing::warn!(status = status.as_u16(), "a sign-in provider refused");
        return Err(refused("the provider refused the sign-in"));
    }
    if !status.is_success() {
        return Err(unavailable("it failed"));
    }
    serde_json::from_slice(&body).map_err(|_| unavailable("its answer cannot be read"))
}

/// Fields as a form's body.
pub(super) fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    request
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body)
}

pub(super) fn unavailable(what: &str) -> Problem {
    Problem::new(
        Code::Unavailable,
        format!("the sign-in provider cannot be used: {what}"),
    )
    .next("try again later")
}

pub(super) fn refused(what: &str) -> Problem {
    Problem::new(Code::Unauthorized, what).next("sign in again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_and_this_machine_are_safe() {
        for good in [
            "https://id.example.org",
            "http://127.0.0.1:1",
            "http://localhost:8",
            "http://[::1]:1/x",
        ] {
            assert!(is_safe(good), "{good}");
        }
        for bad in [
            "http://id.example.org",
            "http://127.0.0.1.evil.example",
            "ftp://x",
            "file:///etc/passwd",
            "",
            "x",
        ] {
            assert!(!is_safe(bad), "{bad}");
        }
        assert!(client("http://10.0.0.1/").is_err());
    }
}
