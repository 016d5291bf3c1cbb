//! Forms of the credentials that a node may join with: the id that NATS knows them by stands in their text.

use mesh_types::NodeId;

use super::JoinError;

/// A join token or an API key.
pub(super) struct Credential {
    /// `jtk_…` or `key_…`: the user at NATS, and the name in its subjects.
    pub(super) id: NodeId,
    pub(super) text: String,
}

impl Credential {
    /// # Errors
    /// [`JoinError::Token`] for any other text.
    pub(super) fn parse(text: &str) -> Result<Self, JoinError> {
        let text = text.trim();
        let mut parts = text.splitn(3, '_');
        let prefix = match parts.next() {
            Some("mjt") => "jtk",
            Some("mak") => "key",
            _ => return Err(JoinError::Token),
        };
        let (Some(ulid), Some(secret)) = (parts.next(), parts.next()) else {
            return Err(JoinError::Token);
        };
        let is_ulid = ulid.len() == 26 && ulid.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_ulid || secret.is_empty() {
            return Err(JoinError::Token);
        }
        let id = format!("{prefix}_{ulid}").parse().map_err(|_| JoinError::Token)?;
        Ok(Self {
            id,
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_its_id_and_anything_else_is_none() {
        let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let id = |text: &str| Credential::parse(text).map(|parsed| parsed.id.to_string());
        assert_eq!(id(&format!("mjt_{ulid}_abc-_d")).unwrap(), format!("jtk_{ulid}"));
        assert_eq!(id(&format!(" mak_{ulid}_x\n")).unwrap(), format!("key_{ulid}"));
        let wrong = [
            String::new(),
            "hunter2".into(),
            format!("mjt_{ulid}"),
            format!("mjt_{ulid}_"),
            format!("mns_{ulid}_x"),
            "mjt_01ARZ3NDEKTSV4RRFFQ69G5F.>_x".into(),
        ];
        for text in wrong {
            assert!(matches!(id(&text), Err(JoinError::Token)), "{text}");
        }
    }
}
