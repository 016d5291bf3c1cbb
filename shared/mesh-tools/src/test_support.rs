//! Real HTTP servers on loopback that remember what they were asked, and calls as a worker makes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use mesh_types::tool::{Target, Tool, ToolCall, ToolKind, ToolSpec};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::{Toolbox, ToolsConfig};

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Ends when dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Site {
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), answer).await
    }

    pub(crate) async fn at(
        address: SocketAddr,
        answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let router = Router::new().fallback(
            move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
                let seen = Seen {
                    method,
                    path: uri.to_string(),
                    headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                kept.lock().unwrap().push(seen.clone());
                answer(&seen)
            },
        );
        Self::serving(address, router, seen).await
    }

    /// For routers of their own; nothing is remembered.
    pub(crate) async fn of(router: Router) -> Self {
        Self::serving(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router, Arc::default()).await
    }

    async fn serving(address: SocketAddr, router: Router, seen: Arc<Mutex<Vec<Seen>>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

pub(crate) fn json(status: u16, body: &str) -> Response {
    answer(status, &[("content-type", "application/json")], body.to_owned())
}

/// May reach loopback.
pub(crate) fn toolbox() -> Toolbox {
    Toolbox::new(ToolsConfig {
        private_networks: vec!["loopback".into()],
        ..ToolsConfig::default()
    })
}

pub(crate) fn call_of(target: Target, arguments: Value) -> ToolCall {
    ToolCall {
        target,
        arguments,
        idempotency_key: "inv_1/7".into(),
        timeout: Duration::from_secs(20),
        session: Some("s-1".into()),
    }
}

pub(crate) fn http_tool(url: String, arguments: Value) -> ToolCall {
    let tool = ToolSpec {
        kind: ToolKind::Http,
        url: Some(url),
        ..ToolSpec::builtin("lookup")
    };
    call_of(Target::Tool(Tool(Box::new(tool))), arguments)
}

pub(crate) fn http_get(allow: &[&str], url: &str) -> ToolCall {
    let tool = ToolSpec {
        allow: allow.iter().map(|host| (*host).to_owned()).collect(),
        ..ToolSpec::builtin("http_get")
    };
    call_of(Target::Tool(Tool(Box::new(tool))), serde_json::json!({"url": url}))
}

/// Answers each question for a name with the next of its addresses; the last one stays.
pub(crate) struct Script {
    addresses: Vec<IpAddr>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) fn new(addresses: impl Into<Vec<IpAddr>>) -> (Self, Arc<Mutex<Vec<String>>>) {
        let (addresses, asked) = (addresses.into(), Arc::new(Mutex::new(Vec::new())));
        let script = Self {
            addresses,
            asked: Arc::clone(&asked),
        };
        (script, asked)
    }
}

impl crate::guard::Lookup for Script {
    async fn lookup(&self, host: String) -> std::io::Result<Vec<IpAddr>> {
        let mut asked = self.asked.lock().unwrap();
        let turn = asked.len().min(self.addresses.len() - 1);
        asked.push(host);
        Ok(vec![self.addresses[turn]])
    }
}
