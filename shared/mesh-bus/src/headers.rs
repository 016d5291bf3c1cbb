//! Headers of a message: who calls, and which trace it belongs to.

use std::fmt;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use mesh_api::Caller;
use mesh_trace::Incoming;
use mesh_types::{Code, Problem};

/// Headers of a message; a thin map, names are case-sensitive.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Tenant of the caller.
    pub const MESH_TENANT: &'static str = "Mesh-Tenant";
    /// Who calls: `user:ann`, `service:execution`.
    pub const MESH_ACTOR: &'static str = "Mesh-Actor";
    /// What the edge found the caller to be in its tenant: `owner`, `viewer`, ….
    pub const MESH_ROLE: &'static str = "Mesh-Role";
    /// Id of the request at the edge.
    pub const MESH_REQUEST_ID: &'static str = "Mesh-Request-Id";
    /// Marks the last message of a streamed answer.
    pub const MESH_FINAL: &'static str = "Mesh-Final";
    /// Number of a chunk within a streamed answer, from 1.
    pub const MESH_CHUNK: &'static str = "Mesh-Chunk";
    /// A streaming endpoint still works on its answer.
    pub const MESH_ALIVE: &'static str = "Mesh-Alive";
    /// Why a dead letter is one: a problem document in JSON.
    pub const MESH_DEAD_REASON: &'static str = "Mesh-Dead-Reason";
    /// Subject that a dead letter was first published to.
    pub const MESH_DEAD_SUBJECT: &'static str = "Mesh-Dead-Subject";
    /// Bytes of the first body, where a dead letter holds only its beginning.
    pub const MESH_DEAD_CUT: &'static str = "Mesh-Dead-Cut-From-Bytes";
    /// Id by which a stream knows a repeated publish.
    pub const NATS_MSG_ID: &'static str = "Nats-Msg-Id";
    /// Text of an error answer.
    pub const NATS_SERVICE_ERROR: &'static str = "Nats-Service-Error";
    /// HTTP status of an error answer.
    pub const NATS_SERVICE_ERROR_CODE: &'static str = "Nats-Service-Error-Code";
    /// W3C trace context.
    pub const TRACEPARENT: &'static str = mesh_trace::TRACEPARENT;

    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a header, replacing what it said. Line breaks in the value become blanks: they would
    /// end the header.
    pub fn insert(&mut self, name: &'static str, value: impl AsRef<str>) {
        let value = value.as_ref();
        let value: HeaderValue = if value.contains(['\r', '\n']) {
            value.replace(['\r', '\n'], " ").into()
        } else {
            value.into()
        };
        self.0.insert(HeaderName::from_static(name), value);
    }

    /// The (first) value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        // A name no header can have would panic in the client.
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if is_name {
            self.0.get(name).map(HeaderValue::as_str)
        } else {
            None
        }
    }

    /// Every name with its first value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, values)| {
            let name: &str = name.as_ref();
            Some((name, values.first()?.as_str()))
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Size on the wire in bytes; counts against the server's `max_payload`.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        const FRAME: usize = "NATS/1.0\r\n\r\n".len();
        const SEPARATORS: usize = ": \r\n".len();
        let lines = self.0.iter().flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values
                .iter()
                .map(move |value| name.len() + value.as_str().len() + SEPARATORS)
        });
        FRAME + lines.sum::<usize>()
    }

    /// The caller's headers.
    #[must_use]
    pub fn of_caller(caller: &Caller) -> Self {
        let mut headers = Self::new();
        headers.insert(Self::MESH_TENANT, caller.tenant.as_str());
        headers.insert(Self::MESH_ACTOR, &caller.actor);
        if let Some(role) = caller.role {
            headers.insert(Self::MESH_ROLE, role.as_str());
        }
        if let Some(id) = &caller.request_id {
            headers.insert(Self::MESH_REQUEST_ID, id.to_string());
        }
        headers
    }

    /// Says to which trace the message belongs, if it does to one.
    pub fn insert_trace(&mut self, place: Option<&mesh_trace::Place>) {
        for (name, value) in place.into_iter().flat_map(mesh_trace::Place::headers) {
            self.insert(name, value);
        }
    }

    /// What it says of its trace.
    #[must_use]
    pub fn trace(&self) -> Incoming<'_> {
        let Some(parent) = self.0.get(Self::TRACEPARENT) else {
            return Incoming::default();
        };
        let states = self.0.get_all(mesh_trace::TRACESTATE).map(HeaderValue::as_str);
        Incoming::new(Some(parent.as_str()), states)
    }

    /// Who calls.
    ///
    /// # Errors
    /// A problem that names the header that is missing or no name.
    pub fn caller(&self) -> Result<Caller, Problem> {
        let missing =
            |name: &str| Problem::new(Code::InvalidRequest, format!("the header {name} is missing")).field(name);
        let tenant = self.get(Self::MESH_TENANT).ok_or_else(|| missing(Self::MESH_TENANT))?;
        let tenant = tenant
            .parse()
            .map_err(|error| Problem::from(error).field(Self::MESH_TENANT))?;
        let actor = self.get(Self::MESH_ACTOR).ok_or_else(|| missing(Self::MESH_ACTOR))?;
        let request_id = self.get(Self::MESH_REQUEST_ID).and_then(|id| id.parse().ok());
        let role = self.get(Self::MESH_ROLE).map(str::parse).transpose();
        let role = role.map_err(|error: mesh_api::UnknownRole| {
            Problem::new(Code::InvalidRequest, error.to_string()).field(Self::MESH_ROLE)
        })?;
        Ok(Caller {
            role,
            tenant,
            actor: actor.to_owned(),
            request_id,
        })
    }

    /// Drops every header whose name is not kept.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        let mut kept = HeaderMap::new();
        for (name, values) in self.0.iter().filter(|(name, _)| is_kept((*name).as_ref())) {
            for value in values {
                kept.append(name.clone(), value.clone());
            }
        }
        self.0 = kept;
    }

    pub(crate) fn into_map(self) -> HeaderMap {
        self.0
    }
}

impl From<Option<HeaderMap>> for Headers {
    fn from(map: Option<HeaderMap>) -> Self {
        Self(map.unwrap_or_default())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_add_a_header() {
        let mut headers = Headers::new();
        headers.insert(Headers::MESH_ACTOR, "ann\r\nMesh-Tenant: other");
        assert_eq!(headers.get(Headers::MESH_ACTOR), Some("ann  Mesh-Tenant: other"));
        assert_eq!(headers.get(Headers::MESH_TENANT), None);
        assert_eq!(headers.get("a b"), None);
        assert_eq!(headers.get(""), None);
    }

    #[test]
    fn a_caller_survives_its_headers() {
        let mut caller = Caller::service("execution", "daarion".parse().unwrap());
        caller.request_id = Some("req_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
        assert_eq!(Headers::of_caller(&caller).caller().unwrap(), caller);
        let problem = Headers::new().caller().unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("Mesh-Tenant"));
        let mut wild = Headers::of_caller(&caller);
        wild.insert(Headers::MESH_TENANT, "*");
        assert!(wild.caller().unwrap_err().is(Code::InvalidName));
    }

    #[test]
    fn the_size_on_the_wire_is_counted() {
        let mut headers = Headers::new();
        headers.insert(Headers::MESH_TENANT, "default");
        assert_eq!(headers.wire_bytes(), "NATS/1.0\r\nMesh-Tenant: default\r\n\r\n".len());
    }
}
