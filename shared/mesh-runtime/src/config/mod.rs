//! Configuration: a type's defaults, then the file, then the environment, then `validate()`; before any
//! socket opens. What nobody knows is refused, with the nearest known name.

mod environment;
mod node;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use environment::{Environment, VARIABLES, Variable};
pub use secret::{HIDDEN, Secret};

use node::{Fault, Node};

/// Tables of the file, and what may stand between `MESH_` and `__`.
pub const SECTIONS: [&str; 10] = [
    "registry",
    "identity",
    "heartbeat",
    "execution",
    "messaging",
    "memory",
    "inference",
    "reconciler",
    "gateway",
    "node",
];

/// Names without `MESH_` that set a service's key (in dots) where `MESH_<SERVICE>__<KEY>` is not set.
pub const ALIASES: [(&str, &str, &str); 14] = [
    ("OPENAI_API_KEY", "inference", "openai_api_key"),
    ("OPENAI_BASE_URL", "inference", "openai_base_url"),
    ("ANTHROPIC_API_KEY", "inference", "anthropic_api_key"),
    ("OLLAMA_URL", "inference", "ollama_url"),
    ("EMBEDDING_API_URL", "memory", "embedding_api_url"),
    ("EMBEDDING_API_URL", "inference", "embedding_api_url"),
    ("CORS_ORIGINS", "gateway", "cors_origins"),
    ("AGENT_NODE_ID", "node", "id"),
    ("AGENT_NODE_NAME", "node", "name"),
    ("AGENT_NODE_MODE", "node", "mode"),
    ("AGENT_NODE_STATE_PATH", "node", "state_path"),
    ("AGENT_NODE_HEARTBEAT_SECONDS", "node", "heartbeat_seconds"),
    ("AGENT_NODE_HEALTH_SECONDS", "node", "health_seconds"),
    (
        "AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE",
        "node",
        "inference.provider_override",
    ),
];

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Box<config::ConfigError>,
    },
    #[error("{origin}: there is no key `{key}`{}", did_you_mean(nearest))]
    UnknownKey {
        key: String,
        origin: String,
        nearest: Option<String>,
    },
    #[error("the environment sets `{name}`, which nobody knows{}", did_you_mean(nearest))]
    UnknownVariable { name: String, nearest: Option<String> },
    #[error("{origin}: `{key}` {reason}")]
    Value {
        key: String,
        origin: String,
        reason: String,
    },
    #[error("the configuration of `{section}` is not valid: {reason}")]
    Invalid { section: String, reason: String },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

/// What a type cannot say by itself: bounds, relations between keys.
pub trait Validate {
    /// The error names the key and says what it must be.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Where a service finds its database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Of the whole mesh; taken from `MESH_DATABASE_URL` where it is empty.
    pub url: Secret<String>,
    /// Most connections of the service's pool.
    pub connections: u32,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            connections: 3,
        }
    }
}

/// Loads one section; [`Loader`] reads the file once for many.
pub fn load<T>(section: &str, file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Default + Validate,
{
    Loader::new(file, env)?.load(section)
}

/// The process's environment; names or values that are no Unicode are left out.
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// File and environment, read and checked for unknown names.
#[derive(Debug, Clone)]
pub struct Loader {
    sections: BTreeMap<String, Layers>,
    environment: Environment,
}

/// The layers of one section above its type's defaults.
#[derive(Debug, Clone)]
struct Layers {
    tree: Node,
    /// By dotted key: who set it last.
    origins: BTreeMap<String, String>,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            tree: Node::Table(BTreeMap::new()),
            origins: BTreeMap::new(),
        }
    }
}

/// One key of the effective configuration, as `mesh config` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// `execution.concurrency`, or the name of a variable.
    pub key: String,
    /// Secrets are `***`.
    pub value: Value,
    /// `default`, the file's path, or the variable that set it.
    pub origin: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.origin)
    }
}

impl Loader {
    /// Reads `file` (TOML, YAML or JSON by its ending) and takes the `MESH_` names of `env`.
    pub fn new(file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut sections = BTreeMap::<String, Layers>::new();
        if let Some(path) = file {
            for (section, tree) in read(path)? {
                let origin = path.display().to_string();
                known_section(&section, None, &origin)?;
                let mut origins = BTreeMap::new();
                leaves(&section, &tree, &mut |key, _| drop(origins.insert(key, origin.clone())));
                sections.insert(
                    section,
                    Layers {
                        tree: tree.into(),
                        origins,
                    },
                );
            }
        }
        for (variable, section, key) in ALIASES {
            if let Some(text) = env.get(variable).filter(|text| !text.is_empty()) {
                sections.entry(section.to_owned()).or_default().set(
                    section,
                    variable,
                    &key.split('.').map(str::to_owned).collect::<Vec<_>>(),
                    text,
                );
            }
        }
        for (name, text) in env {
            let Some(rest) = name.strip_prefix("MESH_").filter(|rest| rest.contains("__")) else {
                continue;
            };
            let mut path: Vec<_> = rest.split("__").map(str::to_lowercase).collect();
            let section = path.remove(0);
            known_section(&section, Some(name), "the environment")?;
            sections
                .entry(section.clone())
                .or_default()
                .set(&section, name, &path, text);
        }
        Ok(Self {
            sections,
            environment: Environment::read(env)?,
        })
    }

    /// The closed list of names with single underscores, and their aliases.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The effective configuration of one service, checked.
    pub fn load<T>(&self, section: &str) -> Result<T, ConfigError>
    where
        T: DeserializeOwned + Default + Validate,
    {
        let loaded: T = self.parse(section)?;
        loaded.validate().map_err(|reason| ConfigError::Invalid {
            section: section.to_owned(),
            reason,
        })?;
        Ok(loaded)
    }

    /// The same for a type that is checked elsewhere.
    pub fn parse<T: DeserializeOwned>(&self, section: &str) -> Result<T, ConfigError> {
        let mut layers = self.sections.get(section).cloned().unwrap_or_default();
        loop {
            let error = match serde_path_to_error::deserialize(layers.tree.clone()) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => layers.error(section, &error.path().to_string(), error.into_inner()),
            };
            // A plain name such as OPENAI_API_KEY is on many machines for other programs: where the
            // service has no such key, it is not meant for us.
            let alias = ALIASES.iter().find(|(variable, _, _)| match &error {
                ConfigError::UnknownKey { origin, .. } => origin == variable,
                _ => false,
            });
            if !alias.is_some_and(|(_, _, key)| layers.tree.remove(key)) {
                return Err(error);
            }
        }
    }

    /// Every key of a loaded configuration with who set it.
    pub fn describe<T: Serialize>(&self, section: &str, config: &T) -> Vec<Entry> {
        let origins = self.sections.get(section).map(|layers| &layers.origins);
        let tree = serde_json::to_value(config).unwrap_or(Value::Null);
        let mut entries = Vec::new();
        leaves(section, &tree, &mut |key, value| {
            let origin = origins.and_then(|origins| origins.get(&key)).cloned();
            let origin = origin.unwrap_or_else(|| "default".to_owned());
            entries.push(Entry {
                key,
                value: value.clone(),
                origin,
            });
        });
        entries
    }
}

impl Layers {
    fn set(&mut self, section: &str, variable: &str, path: &[String], text: &str) {
        self.tree.put(path, Node::Text(text.to_owned()));
        self.origins
            .insert(format!("{section}.{}", path.join(".")), variable.to_owned());
    }

    fn error(&self, section: &str, path: &str, fault: Fault) -> ConfigError {
        let at = if path == "." {
            section.to_owned()
        } else {
            format!("{section}.{path}")
        };
        match fault {
            Fault::UnknownKey { key, known } => {
                // The path may or may not end with the key itself.
                let parent = at.strip_suffix(&format!(".{key}")).unwrap_or(&at);
                let nearest = nearest_of(&key, known.iter().copied()).map(|name| format!("{parent}.{name}"));
                let key = format!("{parent}.{key}");
                ConfigError::UnknownKey {
                    origin: self.origin(&key),
                    key,
                    nearest,
                }
            }
            Fault::Value(reason) => ConfigError::Value {
                origin: self.origin(&at),
                key: at,
                reason,
            },
        }
    }

    /// Who set the key, or something in it.
    fn origin(&self, key: &str) -> String {
        let inside = format!("{key}.");
        let mut found = self
            .origins
            .iter()
            .filter(|(own, _)| *own == key || own.starts_with(&inside));
        found
            .next()
            .map_or_else(|| "configuration".to_owned(), |(_, origin)| origin.clone())
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let file = config::File::from(path).required(true);
    let read = config::Config::builder()
        .add_source(file)
        .build()
        .and_then(config::Config::try_deserialize);
    read.map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn known_section(section: &str, variable: Option<&str>, origin: &str) -> Result<(), ConfigError> {
    if SECTIONS.contains(&section) {
        return Ok(());
    }
    let nearest = nearest_of(section, SECTIONS);
    Err(match variable {
        Some(name) => ConfigError::UnknownVariable {
            name: name.to_owned(),
            nearest: nearest.map(|found| name.replacen(&section.to_uppercase(), &found.to_uppercase(), 1)),
        },
        None => ConfigError::UnknownKey {
            key: section.to_owned(),
            origin: origin.to_owned(),
            nearest,
        },
    })
}

/// The known name that is most like `name`, if one is at all.
fn nearest_of<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let scored = known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > 0.7).then(|| best.1.to_owned())
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be 1 or 0, true or false".to_owned()),
    }
}

/// Calls `each` with the dotted key of every value that is no table (an empty table is a value).
fn leaves(key: &str, value: &Value, each: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                leaves(&format!("{key}.{name}"), value, each);
            }
        }
        value => each(key.to_owned(), value),
    }
}
