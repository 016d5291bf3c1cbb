//! What the edge can be told: where it listens, what it takes, how long it waits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh_runtime::Validate;
use serde::{Deserialize, Deserializer, Serialize};

use crate::http::LiveConfig;
use crate::tunnel::{NatsProxyConfig, TunnelConfig};

/// Table `gateway` of the configuration; keys are `MESH_GATEWAY__<KEY>` in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// An IP address or `localhost`. Only loopback is served where no credentials are demanded.
    pub host: String,
    /// `MESH_HTTP_PORT`; 0 takes a free one.
    pub port: u16,
    /// Nobody gets in without a credential (`MESH_REQUIRE_CREDENTIALS`).
    pub require_credentials: bool,
    /// Largest request body in bytes; at most 1 MiB.
    pub body_bytes_max: usize,
    /// Origins of other pages that may call the API from a browser; a list, or text with commas (`CORS_ORIGINS`).
    #[serde(deserialize_with = "list_or_text")]
    pub cors_origins: Vec<String>,
    /// Names besides `localhost` and loopback addresses that requests may be addressed to (`Host`).
    #[serde(deserialize_with = "list_or_text")]
    pub allowed_hosts: Vec<String>,
    /// Longest wait for an answer that is neither a stream nor asked to wait.
    pub request_timeout_ms: u64,
    /// Time that requests in flight get at a shutdown.
    pub drain_timeout_ms: u64,
    /// Open event streams at most; one more is refused as busy.
    pub streams_max: usize,
    /// Private addresses that A2A push notifications may go to: `loopback`, or networks such as `10.1.0.0/16`.
    #[serde(deserialize_with = "list_or_text")]
    pub push_private_networks: Vec<String>,
    /// Requests that are worked on at a time, of those that answer at once and of those that wait or stream; one more
    /// is told to come again. Probes are always answered.
    pub in_flight_max: usize,
    /// Addresses of proxies in front, whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "list_or_text")]
    pub trusted_proxies: Vec<String>,
    pub rates: RateConfig,
    pub live: LiveConfig,
    pub tunnel: TunnelConfig,
    pub nats: NatsProxyConfig,
}

/// Table `gateway.rates`: how many requests are taken within the window, where credentials are demanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateConfig {
    /// Of each key, signed-in person or node.
    pub credential_requests: u32,
    /// Of all of a tenant.
    pub tenant_requests: u32,
    /// Of each address that shows no good credential (IPv6: each network of 64 bits).
    pub address_requests: u32,
    pub window_seconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigRefused {
    #[error("`host` is `{host}`, which is no IP address: write 127.0.0.1, ::1 or localhost")]
    Host { host: String },
    #[error(
        "`host` {host} can be reached from other machines, and nobody signs in: use 127.0.0.1, or set \
         MESH_REQUIRE_CREDENTIALS=1"
    )]
    NotLoopback { host: IpAddr },
    #[error("`{key}` {rule}")]
    Value { key: &'static str, rule: &'static str },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8_000,
            require_credentials: false,
            body_bytes_max: mesh_types::json::BODY_BYTES_MAX,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            request_timeout_ms: 30_000,
            drain_timeout_ms: 10_000,
            streams_max: 1_000,
            push_private_networks: Vec::new(),
            in_flight_max: 4_096,
            trusted_proxies: Vec::new(),
            rates: RateConfig::default(),
            live: LiveConfig::default(),
            tunnel: TunnelConfig::default(),
            nats: NatsProxyConfig::default(),
        }
    }
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            credential_requests: 10_000,
            tenant_requests: 40_000,
            address_requests: 300,
            window_seconds: 10,
        }
    }
}

impl RateConfig {
    fn rules(&self) -> [(bool, &'static str, &'static str); 2] {
        let requests = [self.credential_requests, self.tenant_requests, self.address_requests];
        [
            (
                requests.iter().all(|count| (1..=1_000_000).contains(count)),
                "rates",
                "must each count between 1 and 1000000 requests",
            ),
            (
                (1..=3_600).contains(&self.window_seconds),
                "rates.window_seconds",
                "must lie between 1 and 3600",
            ),
        ]
    }
}

impl Config {
    /// Addresses of the proxies in front; [`Self::address`] has refused what is none.
    pub(crate) fn proxies(&self) -> Vec<IpAddr> {
        let parsed = self.trusted_proxies.iter().filter_map(|text| text.parse().ok());
        parsed.map(|address: IpAddr| address.to_canonical()).collect()
    }

    /// Checks that types cannot say; also where to listen.
    pub fn address(&self) -> Result<SocketAddr, ConfigRefused> {
        let host = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            other => other.parse().map_err(|_| ConfigRefused::Host {
                host: self.host.clone(),
            })?,
        };
        if !host.is_loopback() && !self.require_credentials {
            return Err(ConfigRefused::NotLoopback { host });
        }
        let body_limit = 1_024..=mesh_types::json::BODY_BYTES_MAX;
        let origins_are_names = self
            .cors_origins
            .iter()
            .all(|origin| origin != "*" && axum::http::HeaderValue::from_str(origin).is_ok());
        for (ok, key, rule) in [
            (
                body_limit.contains(&self.body_bytes_max),
                "body_bytes_max",
                "must lie between 1024 and 1048576",
            ),
            (
                (100..=600_000).contains(&self.request_timeout_ms),
                "request_timeout_ms",
                "must lie between 100 and 600000",
            ),
            (
                self.drain_timeout_ms <= 600_000,
                "drain_timeout_ms",
                "must be at most 600000",
            ),
            (
                (1..=100_000).contains(&self.streams_max),
                "streams_max",
                "must lie between 1 and 100000",
            ),
            (
                (1..=100_000).contains(&self.in_flight_max),
                "in_flight_max",
                "must lie between 1 and 100000",
            ),
            (
                mesh_tools::check_networks(&self.push_private_networks).is_ok(),
                "push_private_networks",
                "must name networks: `loopback`, or an address and bits, such as 10.1.0.0/16",
            ),
            (
                self.proxies().len() == self.trusted_proxies.len(),
                "trusted_proxies",
                "must name IP addresses such as 10.0.0.1",
            ),
            (
                origins_are_names,
                "cors_origins",
                "must name origins such as http://localhost:5173; `*` would let every page in",
            ),
        ]
        .into_iter()
        .chain(self.rates.rules())
        .chain(self.live.rules())
        .chain(self.tunnel.rules())
        .chain(self.nats.rules())
        {
            if !ok {
                return Err(ConfigRefused::Value { key, rule });
            }
        }
        Ok(SocketAddr::new(host, self.port))
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        self.address().map(drop).map_err(|refused| refused.to_string())
    }
}

fn list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ListOrText {
        List(Vec<String>),
        Text(String),
    }
    Ok(match ListOrText::deserialize(deserializer)? {
        ListOrText::List(list) => list,
        ListOrText::Text(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_host(host: &str) -> Result<SocketAddr, ConfigRefused> {
        Config {
            host: host.into(),
            ..Config::default()
        }
        .address()
    }

    #[test]
    fn only_loopback_is_served_without_sign_in() {
        assert_eq!(with_host("127.0.0.1").unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(with_host("localhost").unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(with_host("::1").unwrap().to_string(), "[::1]:8000");
        for host in ["0.0.0.0", "::", "192.168.0.7"] {
            assert!(
                matches!(with_host(host), Err(ConfigRefused::NotLoopback { .. })),
                "{host}"
            );
        }
        assert!(matches!(with_host("example.org"), Err(ConfigRefused::Host { .. })));
        let open = Config {
            host: "0.0.0.0".into(),
            require_credentials: true,
            ..Config::default()
        };
        assert_eq!(open.address().unwrap().to_string(), "0.0.0.0:8000");
    }

    #[test]
    fn origins_are_a_list_or_text() {
        let config: Config = serde_json::from_str(r#"{"cors_origins":"http://a:1, http://b"}"#).unwrap();
        assert_eq!(config.cors_origins, ["http://a:1", "http://b"]);
        let config: Config = serde_json::from_str(r#"{"cors_origins":["http://a:1"]}"#).unwrap();
        assert_eq!(config.cors_origins, ["http://a:1"]);
        let config: Config = serde_json::from_str(r#"{"cors_origins":"*"}"#).unwrap();
        assert!(matches!(
            config.address(),
            Err(ConfigRefused::Value {
                key: "cors_origins",
                ..
            })
        ));
    }

    #[test]
    fn a_limit_over_the_contracts_is_refused() {
        let config = Config {
            body_bytes_max: mesh_types::json::BODY_BYTES_MAX + 1,
            ..Config::default()
        };
        assert!(config.address().is_err());
    }
}
