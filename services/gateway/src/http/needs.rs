//! Who may use which route: read at the start from the very description of the API that everybody sees. What does not
//! stand there is open to nobody.

use std::collections::{BTreeMap, HashMap};

use mesh_api::Role;
use mesh_api::identity::{Principal, PrincipalKind};
use serde_json::Value;
use utoipa::openapi::OpenApi;

/// The security scheme that operations declare: `security(("credential" = ["viewer"]))`.
pub(super) const SCHEME: &str = "credential";
/// A node by its own secret, of itself.
const NODE: &str = "node";
/// Whoever holds a join token.
const JOIN: &str = "join";
/// Routes about the credential itself: no scope closes them.
const OF_ONESELF: &str = "auth";
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// What one operation asks of whoever comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Nobody is asked.
    pub(crate) is_public: bool,
    /// Least role; `None`: no role suffices.
    pub(crate) role: Option<Role>,
    pub(crate) node: bool,
    pub(crate) join: bool,
    /// The family of routes that scopes name.
    pub(crate) tag: String,
}

/// Every operation of the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs(HashMap<String, BTreeMap<String, Need>>);

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Of another kind: a node where people go, a join token anywhere else than at the door.
    Kind,
    Role(Role),
    Scope(String),
    /// A node that asks for another one.
    OtherNode,
}

impl Needs {
    /// # Errors
    /// Names the first operation that does not say who may use it, or says something else than roles, `node`, `join`.
    pub(crate) fn of(document: &OpenApi) -> Result<Self, String> {
        let document = serde_json::to_value(document).map_err(|error| error.to_string())?;
        let mut all = HashMap::new();
        let paths = document["paths"].as_object().into_iter().flatten();
        for (path, item) in paths {
            let mut methods = BTreeMap::new();
            for (method, operation) in item.as_object().into_iter().flatten() {
                if METHODS.contains(&method.as_str()) {
                    let need = need_of(operation).map_err(|reason| format!("{method} {path}: {reason}"))?;
                    methods.insert(method.to_ascii_uppercase(), need);
                }
            }
            all.insert(path.clone(), methods);
        }
        Ok(Self(all))
    }

    /// What the operation asks; `pattern` is the route's, `HEAD` asks what `GET` does.
    pub(crate) fn get(&self, method: &str, pattern: &str) -> Option<&Need> {
        let method = if method == "HEAD" { "GET" } else { method };
        self.0.get(pattern)?.get(method)
    }

    /// What a route takes, for `Allow`; empty for what is no route of the API.
    pub(crate) fn methods(&self, pattern: &str) -> String {
        let methods = self.0.get(pattern).into_iter().flat_map(BTreeMap::keys);
        methods.cloned().collect::<Vec<_>>().join(",")
    }
}

fn need_of(operation: &Value) -> Result<Need, String> {
    let Some(declared) = operation["security"].as_array().filter(|list| !list.is_empty()) else {
        return Err("it does not declare who may use it: security((\"credential\" = [\"…\"]))".into());
    };
    let mut need = Need {
        tag: operation["tags"][0].as_str().unwrap_or_default().replace(' ', "-"),
        ..Need::default()
    };
    for requirement in declared.iter().filter_map(Value::as_object) {
        if requirement.is_empty() {
            need.is_public = true;
        }
        for (scheme, names) in requirement {
            if scheme != SCHEME {
                continue;
            }
            let names = names.as_array().filter(|names| !names.is_empty());
            let names = names.ok_or("`credential` names no role, which would be everybody")?;
            for name in names.iter().filter_map(Value::as_str) {
                need.open_to(name)?;
            }
        }
    }
    let is_open = need.is_public || need.node || need.join || need.role.is_some();
    if is_open {
        Ok(need)
    } else {
        Err("it is open to nobody".into())
    }
}

impl Need {
    fn open_to(&mut self, name: &str) -> Result<(), String> {
        match name {
            NODE => self.node = true,
            JOIN => self.join = true,
            role => {
                let role: Role = role
                    .parse()
                    .map_err(|_| format!("`{role}` is no role, `node` or `join`"))?;
                self.role = Some(
                    self.role
                        .map_or(role, |least| if least.covers(role) { role } else { least }),
                );
            }
        }
        Ok(())
    }

    /// `read` where looking suffices, `write` anywhere else.
    fn verb(&self) -> &'static str {
        if self.role == Some(Role::Viewer) {
            "read"
        } else {
            "write"
        }
    }

    /// Whether that principal may use the operation. `node` is what the path names, where it names one.
    pub(crate) fn check(&self, principal: &Principal, node: Option<&str>) -> Result<(), Refused> {
        match principal.kind {
            PrincipalKind::JoinToken if self.join => Ok(()),
            PrincipalKind::Node if self.node => match node {
                Some(named) if named != principal.id => Err(Refused::OtherNode),
                _ => Ok(()),
            },
            PrincipalKind::JoinToken | PrincipalKind::Node => Err(Refused::Kind),
            PrincipalKind::Key | PrincipalKind::User => {
                let least = self.role.ok_or(Refused::Kind)?;
                if !principal.role.is_some_and(|role| role.covers(least)) {
                    return Err(Refused::Role(least));
                }
                self.check_scopes(&principal.scopes)
            }
        }
    }

    /// Who may write, may read.
    fn check_scopes(&self, scopes: &[String]) -> Result<(), Refused> {
        let allows = |scope: &String| {
            let (tag, verb) = scope.split_once(':').unwrap_or_default();
            tag == self.tag && (verb == self.verb() || verb == "write")
        };
        if scopes.is_empty() || self.tag == OF_ONESELF || scopes.iter().any(allows) {
            return Ok(());
        }
        Err(Refused::Scope(format!("{}:{}", self.tag, self.verb())))
    }
}

/// The part of a path that stands for `{node_id}` in its route, as it came.
pub(crate) fn node_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let place = pattern.split('/').position(|part| part == "{node_id}")?;
    path.split('/').nth(place)
}

#[cfg(test)]
mod tests {
    use mesh_types::Tenant;
    use serde_json::json;

    use super::*;

    fn principal(kind: PrincipalKind, role: Option<Role>, scopes: &[&str]) -> Principal {
        Principal {
            role,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            id: "kitchen".to_owned(),
            kind,
            owner: "ann".to_owned(),
            tenant: Tenant::default(),
        }
    }

    fn need(security: Value) -> Result<Need, String> {
        need_of(&json!({"tags": ["dead letters"], "security": security}))
    }

    #[test]
    fn every_operation_says_who_may_use_it() {
        let needs = Needs::of(&crate::openapi()).unwrap();
        assert!(needs.0.len() > 40, "{}", needs.0.len());
        assert_eq!(needs.get("GET", "/api/v1/nowhere"), None);
        assert_eq!(needs.get("HEAD", "/api/v1/agents"), needs.get("GET", "/api/v1/agents"));
        assert_eq!(needs.methods("/api/v1/agents"), "GET,POST");
        assert_eq!(needs.methods("/nowhere"), "");
    }

    #[test]
    fn what_does_not_say_it_is_refused() {
        for wrong in [
            Value::Null,
            json!([]),
            json!([{SCHEME: []}]),
            json!([{"other": ["owner"]}]),
            json!([{SCHEME: ["king"]}]),
        ] {
            assert!(need(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(need(json!([{}])).unwrap().is_public);
    }

    #[test]
    fn the_least_of_several_roles_counts_whichever_way_they_are_written() {
        for both in [
            json!([{SCHEME: ["owner"]}, {SCHEME: ["service"]}, {SCHEME: ["node"]}]),
            json!([{SCHEME: ["service", "node", "owner"]}]),
        ] {
            let need = need(both).unwrap();
            assert_eq!((need.role, need.node, need.join), (Some(Role::Service), true, false));
        }
    }

    #[test]
    fn a_role_must_cover_what_is_needed() {
        let need = need(json!([{SCHEME: ["operator"]}])).unwrap();
        for role in Role::ALL {
            let may = need.check(&principal(PrincipalKind::Key, Some(role), &[]), None);
            let expected = matches!(role, Role::Operator | Role::Developer | Role::Owner);
            assert_eq!(may.is_ok(), expected, "{role:?}");
        }
        let nothing = principal(PrincipalKind::User, None, &[]);
        assert_eq!(need.check(&nothing, None), Err(Refused::Role(Role::Operator)));
    }

    #[test]
    fn scopes_narrow_and_who_may_write_may_read() {
        let (reads, writes) = (
            need(json!([{SCHEME: ["viewer"]}])).unwrap(),
            need(json!([{SCHEME: ["operator"]}])).unwrap(),
        );
        let owner = |scopes: &[&str]| principal(PrincipalKind::Key, Some(Role::Owner), scopes);
        for (scopes, may_read, may_write) in [
            (&["dead-letters:read"][..], true, false),
            (&["dead-letters:write"], true, true),
            (&["agents:write"], false, false),
            (&["agents:read", "dead-letters:read"], true, false),
            (&["dead-letters"], false, false),
            (&["*"], false, false),
            (&[], true, true),
        ] {
            let may = |need: &Need| need.check(&owner(scopes), None).is_ok();
            assert_eq!((may(&reads), may(&writes)), (may_read, may_write), "{scopes:?}");
        }
    }

    #[test]
    fn a_node_is_known_where_nodes_are_and_speaks_of_itself() {
        let need = need(json!([{SCHEME: ["viewer"]}, {SCHEME: ["node"]}])).unwrap();
        let (node, join) = (
            principal(PrincipalKind::Node, None, &[]),
            principal(PrincipalKind::JoinToken, None, &[]),
        );
        assert_eq!(need.check(&node, None), Ok(()));
        assert_eq!(need.check(&node, Some("kitchen")), Ok(()));
        assert_eq!(need.check(&node, Some("cellar")), Err(Refused::OtherNode));
        assert_eq!(need.check(&join, None), Err(Refused::Kind));
        let pattern = "/api/runtimes/v1/agent-nodes/{node_id}/tunnel/status";
        let path = "/api/runtimes/v1/agent-nodes/cellar/tunnel/status";
        assert_eq!(node_in(pattern, path), Some("cellar"));
        assert_eq!(node_in("/api/v1/agents/{agent}", "/api/v1/agents/x"), None);
    }
}
