//! The closed list of `MESH_` names with single underscores, and the plain names that stand in for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_types::Tenant;

use super::{ConfigError, Entry, HIDDEN, Secret, nearest_of, parse_bool};
use crate::telemetry::{LogFormat, Sampling};

/// One name of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    /// Taken, in order, where `name` is not set.
    pub aliases: &'static [&'static str],
    pub default: &'static str,
    pub about: &'static str,
    shown: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    /// A URL, without the password in it.
    Url,
    Hidden,
}

macro_rules! variables {
    ($($name:literal $aliases:expr, $default:literal, $shown:ident, $about:literal;)*) => {
        /// Every name, in the order of the documentation.
        pub const VARIABLES: &[Variable] = &[$(Variable {
            name: $name, aliases: &$aliases, default: $default, shown: Shown::$shown, about: $about,
        },)*];
    };
}

variables! {
    "MESH_CONFIG" [], "", Whole, "configuration file (TOML, YAML or JSON), one table per service";
    "MESH_HTTP_PORT" [], "8000", Whole, "port of UI, API and docs";
    "MESH_NATS_PORT" [], "4222", Whole, "port of the nats-server that `mesh up` starts";
    "MESH_POSTGRES_PORT" [], "5433", Whole, "port of the PostgreSQL that `mesh up` starts";
    "MESH_OPS_PORT" [], "", Whole, "port of /health and /metrics of `mesh serve` and `mesh node`; empty: none";
    "MESH_HOME" [], ".mesh", Whole, "where `mesh up` keeps its data";
    "MESH_CACHE" [], "", Whole, "where fetched servers are kept; empty: the user's cache";
    "MESH_NATS_URL" ["NATS_URL"], "", Url, "nats-server to use instead of starting one";
    "MESH_NATS_MONITOR_URL" [], "", Url, "where an external nats-server shows /jsz; of a cluster several, separated by commas";
    "MESH_DATABASE_URL" ["DATABASE_URL"], "", Url, "PostgreSQL to use instead of starting one";
    "MESH_NATS_URL_FILE" [], "", Whole, "file with MESH_NATS_URL, where that is not set";
    "MESH_DATABASE_URL_FILE" [], "", Whole, "file with MESH_DATABASE_URL, where that is not set";
    "MESH_NATS_REPLICAS" [], "1", Whole, "copies of each stream: 3 or 5 on a cluster of nats-servers";
    "MESH_ALLOW_LAZY_SYNC" [], "0", Whole, "1: run on a nats-server that may lose what it acknowledged";
    "MESH_LOG_FORMAT" [], "text", Whole, "text or json";
    "MESH_TRACE_SAMPLE" [], "1", Whole, "part of the traces that are recorded where there is a collector, 0 to 1";
    "MESH_TRACES_PER_SECOND" [], "25", Whole, "most traces that begin per second, of reads, writes and messages each; 0: no bound";
    "MESH_URL" ["DATALAYER_RUNTIMES_URL"], "", Url, "the mesh that the command line and nodes talk to";
    "MESH_REQUIRE_CREDENTIALS" [], "0", Whole, "1: nobody gets in without a credential, at the gateway and at NATS";
    "MESH_API_KEY" [], "", Hidden, "credential of the command line; empty: the one that `mesh up` left in MESH_HOME";
    "MESH_API_KEY_FILE" [], "", Whole, "file with MESH_API_KEY, where that is not set";
    "MESH_TENANT" [], "default", Whole, "tenant of the command line";
    "MESH_NODE_TOKEN" ["DATALAYER_API_KEY"], "", Hidden, "what a node joins with";
    "MESH_NODE_TOKEN_FILE" [], "", Whole, "file with MESH_NODE_TOKEN, where that is not set";
    "MESH_FAILPOINTS" [], "", Whole, "tests only: where `mesh serve` dies, freezes or fails";
    "MESH_FAILPOINT_HITS" [], "", Whole, "tests only: file that gets the hits of failpoints";
    "MESH_PLANTED_BUG" [], "", Whole, "tests only: a bug to show, in a build that has them";
}

/// Plain names that have no `MESH_` form.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const LOG_FILTER: &str = "RUST_LOG";

/// The list's values, parsed.
#[derive(Debug, Clone)]
pub struct Environment {
    pub config_file: Option<PathBuf>,
    pub http_port: u16,
    pub nats_port: u16,
    pub postgres_port: u16,
    pub ops_port: Option<u16>,
    pub home: PathBuf,
    pub cache: Option<PathBuf>,
    pub nats_url: Option<String>,
    pub nats_monitor_url: Option<String>,
    pub database_url: Option<Secret<String>>,
    /// Copies of each stream on the nats-servers; 1 without a cluster.
    pub nats_replicas: u32,
    pub allows_lazy_sync: bool,
    pub log_format: LogFormat,
    /// `MESH_TRACE_SAMPLE` and `MESH_TRACES_PER_SECOND`.
    pub sampling: Sampling,
    pub url: Option<String>,
    pub requires_credentials: bool,
    pub api_key: Option<Secret<String>>,
    pub tenant: Tenant,
    pub node_token: Option<Secret<String>>,
    pub failpoints: Option<String>,
    pub failpoint_hits: Option<PathBuf>,
    pub planted_bug: Option<String>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp_endpoint: Option<String>,
    /// `RUST_LOG`.
    pub log_filter: Option<String>,
    entries: Vec<Entry>,
}

impl Environment {
    /// Refuses a `MESH_` name with single underscores that is not in the list.
    pub fn read(env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for name in env
            .keys()
            .filter(|name| name.starts_with("MESH_") && !name.contains("__"))
        {
            if !VARIABLES.iter().any(|variable| variable.name == name) {
                let nearest = nearest_of(name, VARIABLES.iter().map(|variable| variable.name));
                return Err(ConfigError::UnknownVariable {
                    name: name.clone(),
                    nearest,
                });
            }
        }
        let env = &with_files(env)?;
        let values = Values { env };
        Ok(Self {
            config_file: values.optional("MESH_CONFIG").map(PathBuf::from),
            http_port: values.port("MESH_HTTP_PORT")?,
            nats_port: values.port("MESH_NATS_PORT")?,
            postgres_port: values.port("MESH_POSTGRES_PORT")?,
            ops_port: values.optional_port("MESH_OPS_PORT")?,
            home: PathBuf::from(values.text("MESH_HOME").0),
            cache: values.optional("MESH_CACHE").map(PathBuf::from),
            nats_url: values.optional("MESH_NATS_URL"),
            nats_monitor_url: values.optional("MESH_NATS_MONITOR_URL"),
            database_url: values.optional("MESH_DATABASE_URL").map(Secret::new),
            nats_replicas: values.parsed("MESH_NATS_REPLICAS", parse_replicas)?,
            allows_lazy_sync: values.parsed("MESH_ALLOW_LAZY_SYNC", parse_bool)?,
            log_format: values.parsed("MESH_LOG_FORMAT", str::parse)?,
            sampling: Sampling {
                ratio: values.parsed("MESH_TRACE_SAMPLE", parse_ratio)?,
                per_second: values.parsed("MESH_TRACES_PER_SECOND", |text| {
                    text.parse()
                        .map_err(|_| "must be a number of traces, 0 or more".to_owned())
                })?,
            },
            url: values.optional("MESH_URL"),
            requires_credentials: values.parsed("MESH_REQUIRE_CREDENTIALS", parse_bool)?,
            api_key: values.optional("MESH_API_KEY").map(Secret::new),
            tenant: values.parsed("MESH_TENANT", |text| {
                text.parse().map_err(|_| "is no tenant name".to_owned())
            })?,
            node_token: values.optional("MESH_NODE_TOKEN").map(Secret::new),
            failpoints: values.optional("MESH_FAILPOINTS"),
            failpoint_hits: values.optional("MESH_FAILPOINT_HITS").map(PathBuf::from),
            planted_bug: values.optional("MESH_PLANTED_BUG"),
            otlp_endpoint: values.plain(OTLP_ENDPOINT),
            log_filter: values.plain(LOG_FILTER),
            entries: values.entries(),
        })
    }

    /// Every name with its effective value, for `mesh config`.
    pub fn describe(&self) -> &[Entry] {
        &self.entries
    }
}

/// Puts what a `MESH_…_FILE` holds where its name without `_FILE` is not set: containers get their secrets so.
fn with_files(env: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ConfigError> {
    let is_set = |name: &&str| env.get(*name).is_some_and(|text| !text.is_empty());
    let mut all = env.clone();
    for variable in VARIABLES {
        let Some(path) = env.get(variable.name).filter(|path| !path.is_empty()) else {
            continue;
        };
        let held = variable.name.strip_suffix("_FILE");
        let Some(held) = VARIABLES.iter().find(|other| Some(other.name) == held) else {
            continue;
        };
        if std::iter::once(&held.name).chain(held.aliases).any(is_set) {
            continue;
        }
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Value {
            key: variable.name.to_owned(),
            origin: "the environment".to_owned(),
            reason: format!("names `{path}`, which cannot be read: {error}"),
        })?;
        all.insert(held.name.to_owned(), text.trim().to_owned());
    }
    Ok(all)
}

fn parse_replicas(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(replicas @ (1 | 3 | 5)) => Ok(replicas),
        _ => Err("must be 1, 3 or 5".to_owned()),
    }
}

struct Values<'a> {
    env: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    /// The value and who set it. A name that is set to nothing is not set.
    fn text(&self, name: &'static str) -> (String, &'static str) {
        let variable = VARIABLES.iter().find(|variable| variable.name == name);
        let variable = variable.expect("only names of the list are asked for");
        let names = std::iter::once(&variable.name).chain(variable.aliases);
        let set = names.filter_map(|name| Some((self.plain(name)?, *name))).next();
        set.unwrap_or_else(|| (variable.default.to_owned(), "default"))
    }

    fn plain(&self, name: &str) -> Option<String> {
        self.env.get(name).filter(|text| !text.is_empty()).cloned()
    }

    fn optional(&self, name: &'static str) -> Option<String> {
        Some(self.text(name).0).filter(|text| !text.is_empty())
    }

    fn parsed<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let (text, origin) = self.text(name);
        parse(&text).map_err(|reason| ConfigError::Value {
            key: name.to_owned(),
            origin: if origin == "default" {
                "default"
            } else {
                "the environment"
            }
            .to_owned(),
            reason,
        })
    }

    fn port(&self, name: &'static str) -> Result<u16, ConfigError> {
        self.parsed(name, |text| {
            text.parse().map_err(|_| "must be a port, 0 to 65535".to_owned())
        })
    }

    fn optional_port(&self, name: &'static str) -> Result<Option<u16>, ConfigError> {
        self.optional(name).map(|_| self.port(name)).transpose()
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |variable: &Variable| {
            let (text, origin) = self.text(variable.name);
            let shown = match variable.shown {
                Shown::Hidden if !text.is_empty() => HIDDEN.to_owned(),
                Shown::Url => without_password(&text),
                Shown::Whole | Shown::Hidden => text,
            };
            Entry {
                key: variable.name.to_owned(),
                value: shown.into(),
                origin: origin.to_owned(),
            }
        };
        let plain = [OTLP_ENDPOINT, LOG_FILTER].map(|name| {
            let text = self.plain(name);
            let origin = if text.is_some() { name } else { "default" };
            Entry {
                key: name.to_owned(),
                value: without_password(&text.unwrap_or_default()).into(),
                origin: origin.to_owned(),
            }
        });
        VARIABLES.iter().map(entry).chain(plain).collect()
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// `postgres://mesh:***@localhost/mesh`; also hides a password given as a parameter. Several URLs may be separated by commas.
fn without_password(text: &str) -> String {
    let hide = |url: &str| {
        let url = match (url.split_once("://"), url.split_once('?')) {
            (Some(_), Some((before, parameters))) => {
                let each = parameters.split('&').map(|parameter| match parameter.split_once('=') {
                    Some((name, _)) if name.contains("password") || name.contains("token") => {
                        format!("{name}={HIDDEN}")
                    }
                    _ => parameter.to_owned(),
                });
                format!("{before}?{}", each.collect::<Vec<_>>().join("&"))
            }
            _ => url.to_owned(),
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return url;
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        match authority.rsplit_once('@') {
            // A user without a password may be a token (nats://token@host).
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{host}{path}"),
                None => format!("{scheme}://{HIDDEN}@{host}{path}"),
            },
            None => url,
        }
    };
    text.split(',').map(hide).collect::<Vec<_>>().join(",")
}
