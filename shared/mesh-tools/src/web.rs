//! Requests of tools: one guarded client, redirects followed here so that each hop is checked, bodies bounded.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use futures::StreamExt;
use mesh_trace::Place;
use mesh_types::Problem;
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use crate::failure;
use crate::guard::{Guard, GuardedResolver, Lookup, Refused, System};

const REDIRECTS_MAX: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read of an answer that says an error.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    client: Client,
    guard: Guard,
}

/// One request. `body` is JSON.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) accept: &'static str,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) body: Option<Vec<u8>>,
    /// Hosts that may be asked, also after a redirect. `None`: all that the guard permits.
    pub(crate) hosts: Option<&'a [String]>,
}

impl Web {
    pub(crate) fn new(guard: Guard) -> Result<Self, reqwest::Error> {
        Self::with_lookup(guard, System)
    }

    pub(crate) fn with_lookup(guard: Guard, lookup: impl Lookup) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("agent-mesh/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve the names, past the guard.
            .no_proxy()
            .dns_resolver(Arc::new(GuardedResolver {
                guard: guard.clone(),
                lookup: Arc::new(lookup),
            }))
            .build()?;
        Ok(Self { client, guard })
    }

    /// The client itself, for a URL that has passed the guard; it follows no redirects.
    pub(crate) fn client_for(&self, url: &str) -> Result<Client, Problem> {
        self.parsed(url, None)?;
        Ok(self.client.clone())
    }

    /// The answer of the last hop, whatever its status.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Response, Problem> {
        let Ask {
            mut method,
            mut body,
            mut idempotency_key,
            ..
        } = ask;
        let mut url = self.parsed(ask.url, ask.hosts)?;
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self
                .client
                .request(method.clone(), url.clone())
                .header(ACCEPT, ask.accept);
            if let Some(key) = idempotency_key {
                request = request.header("Idempotency-Key", key);
            }
            for (name, value) in mesh_trace::current_place().iter().flat_map(Place::headers) {
                request = request.header(name, value);
            }
            if let Some(body) = &body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
            }
            let response = request.send().await.map_err(failure::of_request)?;
            let Some(location) = location(&response) else {
                return Ok(response);
            };
            let next = url
                .join(&location)
                .map_err(|_| failure::permanent("the answer redirects to what is no URL"))?;
            self.check(&next, ask.hosts)?;
            // RFC 9110, 15.4: 303 asks for a GET; after 301 and 302 clients turn a POST into one.
            let status = response.status();
            if status == StatusCode::SEE_OTHER || (method == Method::POST && status.as_u16() < 303) {
                method = Method::GET;
                body = None;
            }
            if next.origin() != url.origin() {
                if body.is_some() {
                    let place = crate::guard::shown(&next);
                    return Err(failure::permanent(format!(
                        "the answer redirects to {place}, which is not given the arguments"
                    )));
                }
                idempotency_key = None;
            }
            url = next;
        }
        Err(failure::permanent(format!("more than {REDIRECTS_MAX} redirects")))
    }

    fn parsed(&self, url: &str, hosts: Option<&[String]>) -> Result<Url, Problem> {
        let parsed = Url::parse(url).map_err(|_| failure::refused(&Refused::Url(failure::quoted(url))))?;
        self.check(&parsed, hosts)?;
        Ok(parsed)
    }

    fn check(&self, url: &Url, hosts: Option<&[String]>) -> Result<(), Problem> {
        self.guard.check(url).map_err(|why| failure::refused(&why))?;
        let host = url.host_str().unwrap_or_default();
        if hosts.is_some_and(|hosts| !hosts.iter().any(|listed| covers(listed, host))) {
            return Err(failure::refused(&Refused::NotListed(host.to_owned())));
        }
        Ok(())
    }
}

/// Whether an entry of `allow` covers the host: the same name, or below it for `*.example.org`.
fn covers(listed: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let listed = listed.to_ascii_lowercase();
    match listed.strip_prefix("*.") {
        Some(parent) => host
            .strip_suffix(parent)
            .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        None => host == listed,
    }
}

fn location(response: &Response) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// The answer if it is 2xx, else the problem that it says.
pub(crate) async fn successful(response: Response) -> Result<Response, Problem> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = retry_after_seconds(response.headers());
    let content_type = content_type(&response);
    // The status is what matters; a body that cannot be read changes nothing.
    let (bytes, _) = read(response, ERROR_BYTES_MAX).await.unwrap_or_default();
    Err(failure::of_status(status, retry_after, &decoded(&bytes, &content_type)))
}

/// The whole body, or its first `bytes_max` bytes and that there is more.
pub(crate) async fn read(response: Response, bytes_max: usize) -> Result<(Vec<u8>, bool), Problem> {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(failure::of_request)?;
        let taken = chunk.len().min(bytes_max - bytes.len());
        bytes.extend_from_slice(&chunk[..taken]);
        if taken < chunk.len() {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

/// In lower case, empty where there is none.
pub(crate) fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE);
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase()
    })
}

pub(crate) fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media == "application/json" || media.ends_with("+json")
}

/// Text of any encoding that browsers know; UTF-8 where none is said.
pub(crate) fn decoded(bytes: &[u8], content_type: &str) -> String {
    let label = content_type
        .split(';')
        .filter_map(|part| part.trim().strip_prefix("charset="))
        .next();
    let encoding = label
        .and_then(|label| encoding_rs::Encoding::for_label(label.trim_matches('"').as_bytes()))
        .unwrap_or(encoding_rs::UTF_8);
    encoding.decode(bytes).0.into_owned()
}

/// Seconds, or a date, which is read against the answer's own `Date`: its sender's clock is the one that it means.
fn retry_after_seconds(headers: &HeaderMap) -> Option<u32> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    let sent = DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?;
    u32::try_from((until - sent).num_seconds().max(0)).ok()
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
