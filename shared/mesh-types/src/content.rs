//! Content of messages and prompts: text or typed blocks; block types that we do not know are kept verbatim.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Text, or a list of blocks. A block is any JSON object with a `type`; `{"type":"text","text":…}` is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Blocks(Vec<Value>),
}

impl Content {
    /// The text of all text blocks, joined by line breaks; what keyword rules and search look at.
    pub fn plain_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Blocks(blocks) => blocks
                .iter()
                .filter_map(|block| block.get("text").and_then(Value::as_str))
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_blocks_come_back_as_they_went() {
        let json = r#"[{"type":"text","text":"hi"},{"hologram":{"x":1},"type":"later"}]"#;
        let content: Content = serde_json::from_str(json).unwrap();
        assert_eq!(content.plain_text(), "hi");
        assert_eq!(
            serde_json::to_value(&content).unwrap(),
            serde_json::from_str::<Value>(json).unwrap()
        );
    }
}
