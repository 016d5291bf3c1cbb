//! A table of bad requests: each ends in its problem, and the next good request works.

use reqwest::Method;

use crate::support::{Edge, problem};

pub(crate) const INVOKE: &str = "/api/v1/agents/sofia/invocations";

/// What is sent, and which type (and field) the problem must have.
pub(crate) struct Case {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) media_type: &'static str,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) field: Option<&'static str>,
}

pub(crate) fn case(method: Method, path: impl Into<String>, status: u16, kind: &'static str) -> Case {
    Case {
        method,
        path: path.into(),
        headers: Vec::new(),
        media_type: "application/json",
        body: None,
        status,
        kind,
        field: None,
    }
}

pub(crate) fn get(path: impl Into<String>, status: u16, kind: &'static str) -> Case {
    case(Method::GET, path, status, kind)
}

/// A body that is refused as malformed.
pub(crate) fn malformed(body: impl Into<Vec<u8>>) -> Case {
    posted(INVOKE, body, "mesh/malformed-json")
}

pub(crate) fn posted(path: &str, body: impl Into<Vec<u8>>, kind: &'static str) -> Case {
    Case {
        body: Some(body.into()),
        ..case(Method::POST, path, 400, kind)
    }
}

impl Case {
    pub(crate) fn of(self, field: &'static str) -> Self {
        Self {
            field: Some(field),
            ..self
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(crate) async fn run(cases: Vec<Case>) {
    let edge = Edge::start().await;
    edge.declare_sofia().await;
    for Case {
        method,
        path,
        headers,
        media_type,
        body,
        status,
        kind,
        field,
    } in cases
    {
        let shown = body
            .as_deref()
            .map(|body| String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned());
        let case = format!("{method} {path} {headers:?} {shown:?}");
        let mut request = edge.request(method, &path);
        if let Some(body) = body {
            request = request.header("content-type", media_type).body(body);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert_eq!(response.status(), status, "{case}: {:?}", response.text().await);
        let problem = problem(response).await;
        assert_eq!(problem["type"], kind, "{case}: {problem}");
        if let Some(field) = field {
            assert_eq!(problem["field"], field, "{case}: {problem}");
        }
        let good = edge.get("/api/v1/agents/sofia").send().await.unwrap();
        assert_eq!(good.status(), 200, "the next good request after {case}");
    }
    let accepted = edge.world.accepted.lock().unwrap().len();
    let steered = edge.world.steered.lock().unwrap().len();
    assert_eq!((accepted, steered), (0, 0), "nothing bad reached a service");
}
