//! The command line's way to a mesh: HTTP to its gateway. Problems come back as errors that a person can act on.

use std::time::Duration;

use anyhow::Context as _;
use eventsource_stream::{Event, Eventsource};
use futures::{Stream, StreamExt};
use mesh_api::Page;
use mesh_runtime::Secret;
use mesh_types::{Problem, Tenant};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::advised;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer that is not asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// Items a page, where more than one is read.
const PAGE_ITEMS: usize = 500;

/// One mesh, asked in the name of one tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    /// `None` leaves the choice to the gateway, which takes `default` or what a declared object names.
    tenant: Option<Tenant>,
    /// Who asks, where credentials are demanded.
    key: Option<Secret<String>>,
}

/// Parameters of a query; those without a value are left out.
pub(crate) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Client {
    pub(crate) fn new(base: &str, tenant: Option<Tenant>) -> anyhow::Result<Self> {
        let wrong = || {
            advised(
                anyhow::anyhow!("`{base}` is no address of a mesh"),
                "write it like http://127.0.0.1:8000",
            )
        };
        let base = Url::parse(base).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong());
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("mesh/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            // A proxy of this machine's environment is another machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().context("cannot set up HTTP")?;
        Ok(Self {
            http,
            base,
            tenant,
            key: None,
        })
    }

    #[must_use]
    pub(crate) fn with_key(self, key: Secret<String>) -> Self {
        Self { key: Some(key), ..self }
    }

    #[must_use]
    pub(crate) fn for_tenant(&self, tenant: Option<Tenant>) -> Self {
        Self { tenant, ..self.clone() }
    }

    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The address without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> anyhow::Result<T> {
        self.answer(self.request(Method::GET, path, query).timeout(ANSWER_TIMEOUT))
            .await
    }

    /// As [`Self::get`]; `None` when there is no such thing.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        match self.get(path, &[]).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.downcast_ref::<Problem>() {
                Some(problem) if problem.status == 404 => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// At most `limit` items of a list, over as many pages as that takes.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        limit: usize,
    ) -> anyhow::Result<Page<T>> {
        let mut all = Page {
            items: Vec::new(),
            next: None,
        };
        loop {
            let wanted = (limit - all.items.len()).min(PAGE_ITEMS);
            let mut query = query.to_vec();
            query.extend([("limit", Some(wanted.to_string())), ("after", all.next.take())]);
            let page: Page<T> = self.get(path, &query).await?;
            all.items.extend(page.items);
            all.next = page.next;
            if all.next.is_none() || all.items.len() >= limit {
                return Ok(all);
            }
        }
    }

    pub(crate) async fn send<B, T>(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&B>,
    ) -> anyhow::Result<T>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let mut request = self.request(method, path, query).timeout(ANSWER_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    pub(crate) async fn post<B, T>(&self, path: &str, body: &B) -> anyhow::Result<T>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    /// As [`Self::post`], where the same key again is the same request.
    pub(crate) async fn post_keyed<B, T>(&self, path: &str, body: &B, key: Option<&str>) -> anyhow::Result<T>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let mut request = self.request(Method::POST, path, &[]).timeout(ANSWER_TIMEOUT).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.answer(request).await
    }

    /// As [`Self::post`], where the work may take longer than an answer usually does.
    pub(crate) async fn post_within<B, T>(&self, path: &str, body: &B, timeout: Duration) -> anyhow::Result<T>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let request = self.request(Method::POST, path, &[]).timeout(timeout).json(body);
        self.answer(request).await
    }

    /// Bytes as they are, of that media type.
    pub(crate) async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path, query).timeout(ANSWER_TIMEOUT);
        self.answer(request.header("Content-Type", media_type).body(bytes))
            .await
    }

    /// Server-sent events from after `last_id`; `None` when nothing can follow.
    pub(crate) async fn events(
        &self,
        path: &str,
        last_id: Option<&str>,
    ) -> anyhow::Result<Option<impl Stream<Item = anyhow::Result<Event>> + use<>>> {
        let mut request = self.request(Method::GET, path, &[]);
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = self.sent(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let events = response.bytes_stream().eventsource();
        Ok(Some(
            events.map(|event| event.context("the stream of events broke off")),
        ))
    }

    /// Status and body of a route of operation, whatever the status is.
    pub(crate) async fn probe<T: DeserializeOwned>(&self, path: &str, timeout: Duration) -> anyhow::Result<(u16, T)> {
        let response = self.request(Method::GET, path, &[]).timeout(timeout).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }

    /// Text of a route of operation.
    pub(crate) async fn text(&self, path: &str, timeout: Duration) -> anyhow::Result<String> {
        let response = self.sent(self.request(Method::GET, path, &[]).timeout(timeout)).await?;
        response.text().await.context("the answer broke off")
    }

    fn request(&self, method: Method, path: &str, query: Query<'_>) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let set = query
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let set: Vec<_> = set.collect();
        if !set.is_empty() {
            url.query_pairs_mut().extend_pairs(set);
        }
        let mut request = self.http.request(method, url);
        if let Some(key) = &self.key {
            request = request.header("X-Service-API-Key", key.expose());
        }
        match &self.tenant {
            Some(tenant) => request.header("Mesh-Tenant", tenant.as_str()),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = self.sent(request).await?;
        let body = response.bytes().await.context("the answer broke off")?;
        serde_json::from_slice(&body)
            .with_context(|| format!("the answer of {} is not what this version of mesh expects", self.base()))
    }

    /// The answer, if it is no problem.
    async fn sent(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(advised(
                anyhow::anyhow!("{} answered {status}, and not as a mesh does", self.base()),
                "check the address: --url or MESH_URL",
            )),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let base = self.base();
        if error.is_timeout() {
            return advised(
                anyhow::anyhow!("the mesh at {base} does not answer in time"),
                "mesh doctor says what is wrong",
            );
        }
        if error.is_connect() {
            let next = "mesh up starts one; --url or MESH_URL names another";
            return advised(anyhow::anyhow!("no mesh answers at {base}"), next);
        }
        anyhow::Error::from(error.without_url()).context(format!("cannot ask the mesh at {base}"))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_http_are_taken() {
        for wrong in ["", "127.0.0.1:8000", "nats://127.0.0.1:4222", "mailto:x@y"] {
            assert!(Client::new(wrong, None).is_err(), "{wrong}");
        }
        let client = Client::new("http://127.0.0.1:8000/", None).unwrap();
        assert_eq!(client.base(), "http://127.0.0.1:8000");
    }

    #[test]
    fn a_path_is_kept_below_the_base() {
        let client = Client::new("https://mesh.example/under/", Some("daarion".parse().unwrap())).unwrap();
        let query = [("q", Some("a b&c".to_owned())), ("none", None)];
        let request = client.request(Method::GET, "/api/v1/agents", &query).build().unwrap();
        assert_eq!(
            request.url().as_str(),
            "https://mesh.example/under/api/v1/agents?q=a+b%26c"
        );
        assert_eq!(request.headers()["mesh-tenant"], "daarion");
    }

    #[test]
    fn this_machine_is_asked_without_a_proxy() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
