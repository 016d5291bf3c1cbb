//! Configuration of the way to models.

use std::fmt;
use std::str::FromStr;

use mesh_runtime::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// Who answers for the models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// An endpoint of the node's own.
    Local,
    /// The mesh, with its keys. `datalayer` is taken for it.
    #[default]
    Mesh,
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "local" => Ok(Self::Local),
            "mesh" | "datalayer" => Ok(Self::Mesh),
            _ => Err("is neither `local` nor `mesh`".to_owned()),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Mesh => "mesh",
        })
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// Until another one is chosen at the node's page.
    pub provider: Provider,
    /// `AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE`: goes before any choice.
    pub provider_override: Option<Provider>,
    /// The node's own endpoint, any server that speaks OpenAI's chat completions: its URL up to and without
    /// `/chat/completions`.
    pub base_url: Option<String>,
    /// Of that endpoint; it stays on the node.
    pub api_key: Option<Secret<String>>,
    /// What that endpoint is asked for, whatever model an agent names; absent: what the agent names.
    pub model: Option<String>,
}

impl InferenceConfig {
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.endpoint().map(|_| ())
    }

    /// The node's own endpoint, if it has one.
    pub(crate) fn endpoint(&self) -> Result<Option<Url>, String> {
        let Some(text) = self.base_url.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let url = Url::parse(text).map_err(|error| format!("base_url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("base_url: not an http or https URL".to_owned());
        }
        Ok(Some(url))
    }
}

/// To show: a user and a password in a URL are secrets too.
pub(crate) fn without_user(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) => {
            let hidden = url.set_username("").and_then(|()| url.set_password(None));
            hidden.map_or_else(|()| String::new(), |()| url.to_string())
        }
        Err(_) => String::new(),
    }
}
