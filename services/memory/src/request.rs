//! Requests checked at the edge of the service: bounds, NUL, hashes of bodies. Pure.

use mesh_api::memory::{MemoryChange, QueryRequest, StoreRequest};
use mesh_types::{Code, Problem};
use sha2::{Digest, Sha256};

/// Longest content of a memory, in bytes.
pub const CONTENT_BYTES_MAX: usize = 32 * 1024;
/// Longest metadata as JSON, in bytes; a whole exchange fits twice.
pub const METADATA_BYTES_MAX: usize = 128 * 1024;
pub(crate) const TAGS_MAX: usize = 32;
pub(crate) const TAG_CHARACTERS_MAX: usize = 64;
pub const HITS_MAX: u32 = 100;

pub(crate) fn check_store(request: &StoreRequest) -> Result<(), Problem> {
    check_text("content", &request.content)?;
    check_tags(&request.tags)?;
    check_importance(request.importance)?;
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
    change.importance.map_or(Ok(()), check_importance)
}

pub(crate) fn check_query(request: &QueryRequest) -> Result<(), Problem> {
    check_text("query", &request.query)?;
    check_tags(&request.filters.tags).map_err(|problem| problem.field("filters.tags"))?;
    if !(1..=HITS_MAX).contains(&request.k) {
        return Err(invalid(
            "k",
            format!("{} hits; 1 to {HITS_MAX} can be asked for", request.k),
        ));
    }
    if request.filters.score_min.is_some_and(|least| !least.is_finite()) {
        return Err(invalid("filters.score_min", "not a finite number"));
    }
    Ok(())
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
        assert_eq!(
            with(&|r| _ = r.metadata.insert("m".into(), json!("x".repeat(METADATA_BYTES_MAX)))),
            "metadata"
        );
        let query = |text: &str, k: u32| QueryRequest {
            agent: "sofia".parse().unwrap(),
            query: text.to_owned(),
            k,
            filters: mesh_api::memory::QueryFilters::default(),
        };
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
}
