//! Requests checked at the edge of the service: bounds, NUL, hashes of bodies. Pure.

use mesh_api::memory::{
    ForgetFilter, ForgetRequest, ListMemories, MemoryChange, QueryFilters, QueryMode, QueryRequest, Scope,
    StoreRequest, Weights,
};
use mesh_types::{Code, Problem};
use sha2::{Digest, Sha256};

/// Longest content of a memory, in bytes.
pub const CONTENT_BYTES_MAX: usize = 32 * 1024;
/// Longest metadata as JSON, in bytes; a whole exchange fits twice.
pub const METADATA_BYTES_MAX: usize = 128 * 1024;
pub(crate) const TAGS_MAX: usize = 32;
pub(crate) const TAG_CHARACTERS_MAX: usize = 64;
pub const HITS_MAX: u32 = 100;
/// Longest name of a session or a user.
pub(crate) const NAME_CHARACTERS_MAX: usize = 256;
/// Memories that one memory replaces, or is made of.
pub(crate) const RELATED_MAX: usize = 500;
/// Ids that one erasure names.
pub(crate) const IDS_MAX: usize = 1_000;
/// A hundred years.
pub(crate) const TTL_SECONDS_MAX: u64 = 3_155_760_000;

pub(crate) fn check_store(request: &StoreRequest) -> Result<(), Problem> {
    check_text("content", &request.content)?;
    check_tags(&request.tags)?;
    check_importance(request.importance)?;
    check_ttl(request.ttl_seconds)?;
    check_names(request.session.as_deref(), request.user.as_deref(), "")?;
    owner(request)?;
    for (field, related) in [
        ("supersedes", &request.supersedes),
        ("derived_from", &request.derived_from),
    ] {
        check_count(field, related.len(), RELATED_MAX)?;
    }
    let metadata = metadata_json(request)?.len();
    if metadata > METADATA_BYTES_MAX {
        return Err(invalid(
            "metadata",
            format!("{metadata} bytes of JSON, at most {METADATA_BYTES_MAX} are kept"),
        ));
    }
    Ok(())
}

pub(crate) fn check_change(change: &MemoryChange) -> Result<(), Problem> {
    if let Some(content) = &change.content {
        check_text("content", content)?;
    }
    change.tags.as_deref().map_or(Ok(()), check_tags)?;
    change.importance.map_or(Ok(()), check_importance)?;
    check_ttl(change.ttl_seconds)
}

pub(crate) fn check_list(request: &ListMemories) -> Result<(), Problem> {
    check_names(request.session.as_deref(), request.user.as_deref(), "")?;
    request.tag.as_deref().map_or(Ok(()), |tag| check_nul("tag", tag))
}

/// An erasure without any condition would take all that the tenant has: it is refused.
pub(crate) fn check_erase(request: &ForgetRequest) -> Result<(), Problem> {
    let filter = &request.filter;
    if *filter == ForgetFilter::default() {
        return Err(invalid("filter", "no condition: this would forget everything")
            .next("name at least one of ids, agent, type, scope, session, user, tags, invocation, before"));
    }
    check_names(filter.session.as_deref(), filter.user.as_deref(), "filter.")?;
    check_tags(&filter.tags).map_err(|problem| {
        let field = problem.field.clone().unwrap_or_default();
        problem.field(format!("filter.{field}"))
    })?;
    check_count("filter.ids", filter.ids.len(), IDS_MAX)
}

/// Whose memory it is, as the database has it.
pub(crate) fn owner(request: &StoreRequest) -> Result<String, Problem> {
    let (session, user) = (request.session.as_deref(), request.user.as_deref());
    let field = if request.scope == Scope::Session {
        "session"
    } else {
        "user"
    };
    crate::same::owner(request.scope, &request.agent, session, user).ok_or_else(|| {
        invalid(
            field,
            format!("a memory of scope `{}` needs it", request.scope.as_str()),
        )
    })
}

pub(crate) fn check_query(request: &QueryRequest) -> Result<(), Problem> {
    if request.vector.is_none() || request.mode == QueryMode::Text || !request.query.is_empty() {
        check_text("query", &request.query)?;
    }
    if !(1..=HITS_MAX).contains(&request.k) {
        return Err(invalid(
            "k",
            format!("{} hits; 1 to {HITS_MAX} can be asked for", request.k),
        ));
    }
    if let Some(model) = &request.model {
        check_names(Some(model), None, "").map_err(|problem| problem.field("model"))?;
    }
    check_share("mmr", request.mmr)?;
    check_count("knowledge", request.knowledge.len(), TAGS_MAX)?;
    check_weights(&request.weights)?;
    check_filters(&request.filters)
}

fn check_weights(weights: &Weights) -> Result<(), Problem> {
    let parts = [
        ("weights.vector", weights.vector),
        ("weights.text", weights.text),
        ("weights.recency", weights.recency),
        ("weights.importance", weights.importance),
    ];
    for (field, weight) in parts {
        check_share(field, Some(weight))?;
    }
    if parts.iter().all(|(_, weight)| *weight <= 0.0) {
        return Err(invalid("weights", "nothing weighs anything").next("give one of them a weight above 0"));
    }
    if weights.half_life_hours.is_finite() && weights.half_life_hours > 0.0 {
        Ok(())
    } else {
        Err(invalid("weights.half_life_hours", "not a number of hours above 0"))
    }
}

fn check_filters(filters: &QueryFilters) -> Result<(), Problem> {
    check_tags(&filters.tags).map_err(|problem| problem.field("filters.tags"))?;
    check_names(filters.session.as_deref(), filters.user.as_deref(), "filters.")?;
    check_share("filters.importance_min", filters.importance_min)?;
    let leasts = [
        ("filters.score_min", filters.score_min),
        ("filters.similarity_min", filters.similarity_min),
    ];
    for (field, least) in leasts {
        if least.is_some_and(|least| !least.is_finite()) {
            return Err(invalid(field, "not a finite number"));
        }
    }
    for (scope, name, is_named) in [
        (Scope::Session, "session", filters.session.is_some()),
        (Scope::User, "user", filters.user.is_some()),
    ] {
        if filters.scopes.contains(&scope) && !is_named {
            let field = format!("filters.{name}");
            return Err(invalid(
                &field,
                format!("a search of scope `{name}` needs to know which {name}"),
            ));
        }
    }
    Ok(())
}

fn check_share(field: &str, share: Option<f64>) -> Result<(), Problem> {
    match share {
        Some(share) if !(0.0..=1.0).contains(&share) => Err(invalid(field, "not within 0 to 1")),
        _ => Ok(()),
    }
}

/// What the same id must come with again. The id itself is left out, key order does not matter.
pub(crate) fn body_hash(request: &StoreRequest) -> Result<[u8; 32], Problem> {
    let unnamed = StoreRequest {
        id: None,
        ..request.clone()
    };
    // Through `Value`, whose objects are sorted.
    let value = serde_json::to_value(&unnamed).map_err(|error| invalid("metadata", error.to_string()))?;
    Ok(Sha256::digest(value.to_string()).into())
}

/// What the same receipt must come with again; whether it is only a rehearsal does not matter.
pub(crate) fn erase_hash(request: &ForgetRequest) -> Result<[u8; 32], Problem> {
    let unnamed = ForgetRequest {
        id: None,
        dry_run: false,
        ..request.clone()
    };
    let value = serde_json::to_value(&unnamed).map_err(|error| invalid("filter", error.to_string()))?;
    Ok(Sha256::digest(value.to_string()).into())
}

pub(crate) fn metadata_json(request: &StoreRequest) -> Result<String, Problem> {
    serde_json::to_string(&request.metadata).map_err(|error| invalid("metadata", error.to_string()))
}

fn check_text(field: &str, text: &str) -> Result<(), Problem> {
    if text.len() > CONTENT_BYTES_MAX {
        return Err(invalid(
            field,
            format!("{} bytes of text, at most {CONTENT_BYTES_MAX} are taken", text.len()),
        ));
    }
    if text.trim().is_empty() {
        return Err(invalid(field, "no text"));
    }
    check_nul(field, text)
}

fn check_nul(field: &str, text: &str) -> Result<(), Problem> {
    match text.find('\0') {
        Some(at) => Err(invalid(
            field,
            format!("the character U+0000 at byte {at} cannot be stored"),
        )),
        None => Ok(()),
    }
}

fn check_tags(tags: &[String]) -> Result<(), Problem> {
    if tags.len() > TAGS_MAX {
        return Err(invalid(
            "tags",
            format!("{} tags, at most {TAGS_MAX} are kept", tags.len()),
        ));
    }
    for (index, tag) in tags.iter().enumerate() {
        let field = format!("tags[{index}]");
        if !(1..=TAG_CHARACTERS_MAX).contains(&tag.chars().count()) {
            return Err(invalid(
                &field,
                format!("a tag has 1 to {TAG_CHARACTERS_MAX} characters"),
            ));
        }
        check_nul(&field, tag)?;
    }
    Ok(())
}

fn check_names(session: Option<&str>, user: Option<&str>, within: &str) -> Result<(), Problem> {
    for (field, name) in [("session", session), ("user", user)] {
        let Some(name) = name else { continue };
        let field = format!("{within}{field}");
        if !(1..=NAME_CHARACTERS_MAX).contains(&name.chars().count()) {
            return Err(invalid(&field, format!("1 to {NAME_CHARACTERS_MAX} characters")));
        }
        check_nul(&field, name)?;
    }
    Ok(())
}

fn check_count(field: &str, count: usize, most: usize) -> Result<(), Problem> {
    if count > most {
        return Err(invalid(field, format!("{count} of them, at most {most} are taken")));
    }
    Ok(())
}

fn check_ttl(seconds: Option<u64>) -> Result<(), Problem> {
    if seconds.is_some_and(|seconds| seconds > TTL_SECONDS_MAX) {
        return Err(
            invalid("ttl_seconds", format!("at most {TTL_SECONDS_MAX}")).next("send 0 to keep the memory for good")
        );
    }
    Ok(())
}

fn check_importance(importance: f64) -> Result<(), Problem> {
    if (0.0..=1.0).contains(&importance) {
        Ok(())
    } else {
        Err(invalid("importance", "not within 0 to 1"))
    }
}

fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail).field(field)
}

#[cfg(test)]
mod tests {
    use mesh_types::{Id, MemoryId};
    use serde_json::json;

    use super::*;

    fn request(content: &str) -> StoreRequest {
        serde_json::from_value(json!({"agent": "sofia", "content": content})).unwrap()
    }

    fn field(result: Result<(), Problem>) -> String {
        let problem = result.unwrap_err();
        assert_eq!(problem.status, 400);
        problem.field.unwrap()
    }

    #[test]
    fn content_is_taken_to_its_limit_and_no_further() {
        assert!(check_store(&request(&"x".repeat(CONTENT_BYTES_MAX))).is_ok());
        assert_eq!(
            field(check_store(&request(&"x".repeat(CONTENT_BYTES_MAX + 1)))),
            "content"
        );
        assert_eq!(field(check_store(&request(" \n"))), "content");
        assert_eq!(field(check_store(&request("a\0b"))), "content");
    }

    #[test]
    fn each_refusal_names_its_field() {
        let with = |change: &dyn Fn(&mut StoreRequest)| {
            let mut request = request("x");
            change(&mut request);
            field(check_store(&request))
        };
        assert_eq!(with(&|r| r.importance = f64::NAN), "importance");
        assert_eq!(with(&|r| r.importance = 1.01), "importance");
        assert_eq!(with(&|r| r.tags = vec!["a".into(), "\0".into()]), "tags[1]");
        assert_eq!(with(&|r| r.tags = vec![String::new()]), "tags[0]");
        assert_eq!(with(&|r| r.tags = vec!["t".into(); TAGS_MAX + 1]), "tags");
        assert_eq!(with(&|r| r.scope = Scope::Session), "session");
        assert_eq!(with(&|r| r.scope = Scope::User), "user");
        assert_eq!(with(&|r| r.user = Some(String::new())), "user");
        assert_eq!(
            with(&|r| r.session = Some("ї".repeat(NAME_CHARACTERS_MAX + 1))),
            "session"
        );
        assert_eq!(with(&|r| r.session = Some("a\0".into())), "session");
        assert_eq!(with(&|r| r.ttl_seconds = Some(TTL_SECONDS_MAX + 1)), "ttl_seconds");
        let many = vec![MemoryId::from_u128(1); RELATED_MAX + 1];
        assert_eq!(with(&|r| r.supersedes.clone_from(&many)), "supersedes");
        assert_eq!(with(&|r| r.derived_from.clone_from(&many)), "derived_from");
        assert_eq!(
            with(&|r| _ = r.metadata.insert("m".into(), json!("x".repeat(METADATA_BYTES_MAX)))),
            "metadata"
        );
        let query = |text: &str, k: u32| QueryRequest::new("sofia".parse().unwrap(), text, k);
        assert!(check_query(&query("x", HITS_MAX)).is_ok());
        assert_eq!(field(check_query(&query("x", 0))), "k");
        assert_eq!(field(check_query(&query("x", HITS_MAX + 1))), "k");
        assert_eq!(field(check_query(&query("", 5))), "query");
    }

    #[test]
    fn a_body_is_the_same_whatever_its_id_and_order() {
        let one: StoreRequest =
            serde_json::from_value(json!({"agent": "a", "content": "x", "metadata": {"k": 1, "a": 2}})).unwrap();
        let mut other: StoreRequest =
            serde_json::from_str(r#"{"metadata":{"a":2,"k":1},"content":"x","agent":"agent:a"}"#).unwrap();
        other.id = Some(MemoryId::from_u128(1));
        assert_eq!(body_hash(&one).unwrap(), body_hash(&other).unwrap());
        other.content.push('!');
        assert_ne!(body_hash(&one).unwrap(), body_hash(&other).unwrap());
    }

    #[test]
    fn an_erasure_needs_a_condition_and_its_hash_is_of_what_it_takes() {
        let request = |value| serde_json::from_value::<ForgetRequest>(value).unwrap();
        assert_eq!(field(check_erase(&request(json!({"filter": {}})))), "filter");
        assert_eq!(
            field(check_erase(&request(json!({"filter": {"user": ""}})))),
            "filter.user"
        );
        assert_eq!(
            field(check_erase(&request(json!({"filter": {"tags": [""]}})))),
            "filter.tags[0]"
        );
        let ids = vec![MemoryId::from_u128(1); IDS_MAX + 1];
        assert_eq!(
            field(check_erase(&request(json!({"filter": {"ids": ids}})))),
            "filter.ids"
        );
        assert!(check_erase(&request(json!({"filter": {"agent": "sofia"}}))).is_ok());
        let hash = |value| erase_hash(&request(value)).unwrap();
        let one = hash(json!({"filter": {"user": "ann"}}));
        assert_eq!(one, hash(json!({"filter": {"user": "ann"}, "dry_run": true})));
        assert_ne!(one, hash(json!({"filter": {"user": "bob"}})));
        assert_ne!(one, hash(json!({"filter": {"user": "ann"}, "keep_derived": true})));
    }
}
