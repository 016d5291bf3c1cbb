//! Agents as the registry keeps them: what a declared object becomes, its etag, and what a reader is shown. Pure.

use mesh_api::registry::{AgentStatus, AgentView, PublishedVersion};
use mesh_types::agent::Agent;
use mesh_types::{Code, Problem, Tenant, Timestamp};

use crate::artifact::{Artifact, Hash, canonical_json};

/// A declared object, checked, in the form that is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub(crate) agent: Agent,
    /// Canonical JSON of `agent`.
    pub(crate) json: String,
    pub(crate) artifact: Artifact,
}

/// One agent as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) declared: Declared,
    /// Counts the changes of the declared object, from 1.
    pub(crate) generation: u64,
    pub(crate) published: Option<Current>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// The version that new invocations are pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) version: u32,
    pub(crate) hash: Hash,
    pub(crate) published_at: Timestamp,
}

impl Declared {
    /// Checks the object for a caller of `tenant`; one that names another tenant is refused.
    pub(crate) fn new(mut agent: Agent, tenant: &Tenant) -> Result<Self, Problem> {
        if let Some(named) = agent.metadata.tenant.as_ref().filter(|named| *named != tenant) {
            let detail = format!("metadata.tenant is `{named}`, but the request is of tenant `{tenant}`");
            return Err(Problem::new(Code::InvalidRequest, detail)
                .field("metadata.tenant")
                .next("leave metadata.tenant out, or send the request as that tenant"));
        }
        agent.validate()?;
        agent.metadata.tenant = Some(tenant.clone());
        Self::of(agent).map_err(|error| Problem::new(Code::AgentInvalid, error.to_string()))
    }

    fn of(agent: Agent) -> Result<Self, serde_json::Error> {
        let json = canonical_json(&agent)?;
        let artifact = Artifact::of(&agent.spec)?;
        Ok(Self { agent, json, artifact })
    }

    /// From the stored text.
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        Self::of(serde_json::from_str(json)?)
    }
}

impl Stored {
    /// Changes with every change of the declared object. Generation and content: an agent that was deleted and
    /// declared anew counts from 1 again and must not pass for the old one.
    pub(crate) fn etag(&self) -> String {
        let content = Hash::of(self.declared.json.as_bytes()).to_string();
        format!("{}-{}", self.generation, &content[..16])
    }

    /// Whether the caller's `If-Match` (quotes or not, `*` for any) still holds.
    pub(crate) fn check(&self, if_match: Option<&str>) -> Result<(), Problem> {
        let etag = self.etag();
        let holds = if_match.is_none_or(|wanted| {
            wanted
                .split(',')
                .map(str::trim)
                .any(|one| one == "*" || one.trim_matches('"') == etag)
        });
        if holds {
            return Ok(());
        }
        let detail = format!(
            "agent `{}` has the etag {etag} by now",
            self.declared.agent.metadata.name
        );
        Err(Problem::new(Code::PreconditionFailed, detail)
            .field("if_match")
            .next("read the agent again, apply your change to what you read, and send its new etag"))
    }

    pub(crate) fn view(&self) -> AgentView {
        let agent = self.declared.agent.clone();
        let is_published = self
            .published
            .is_some_and(|current| current.hash == self.declared.artifact.hash);
        AgentView {
            api_version: agent.api_version,
            kind: agent.kind,
            metadata: agent.metadata,
            spec: agent.spec,
            status: AgentStatus {
                etag: self.etag(),
                generation: self.generation,
                published: self.published.map(|current| PublishedVersion {
                    version: current.version,
                    hash: current.hash.to_string(),
                    published_at: current.published_at,
                }),
                draft: !is_published,
                created_at: self.created_at,
                updated_at: self.updated_at,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(generation: u64, instructions: &str) -> Stored {
        let json = format!(r#"{{"metadata":{{"name":"sofia"}},"spec":{{"instructions":"{instructions}"}}}}"#);
        Stored {
            declared: Declared::new(serde_json::from_str(&json).unwrap(), &Tenant::default()).unwrap(),
            generation,
            published: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn an_etag_tells_generations_and_contents_apart() {
        assert_eq!(stored(1, "a").etag(), stored(1, "a").etag());
        assert_ne!(stored(1, "a").etag(), stored(2, "a").etag());
        assert_ne!(stored(1, "a").etag(), stored(1, "b").etag());
    }

    #[test]
    fn if_match_takes_what_http_sends() {
        let agent = stored(1, "a");
        let etag = agent.etag();
        for good in [
            format!("\"{etag}\""),
            etag.clone(),
            "*".into(),
            format!("\"x\", \"{etag}\""),
        ] {
            assert!(agent.check(Some(&good)).is_ok(), "{good}");
        }
        assert!(agent.check(None).is_ok());
        assert_eq!(agent.check(Some("\"1-0\"")).unwrap_err().status, 412);
        assert_eq!(agent.check(Some("")).unwrap_err().status, 412);
    }

    #[test]
    fn another_tenants_object_is_refused_by_field() {
        let agent = serde_json::from_str(r#"{"metadata":{"name":"sofia","tenant":"daarion"}}"#).unwrap();
        let problem = Declared::new(agent, &Tenant::default()).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("metadata.tenant"));
    }

    #[test]
    fn a_draft_is_what_differs_from_the_published_version() {
        let mut agent = stored(1, "a");
        assert!(agent.view().status.draft);
        let hash = agent.declared.artifact.hash;
        agent.published = Some(Current {
            version: 1,
            hash,
            published_at: Timestamp::EPOCH,
        });
        assert!(!agent.view().status.draft);
        agent.declared = stored(2, "b").declared;
        assert!(agent.view().status.draft);
    }
}
