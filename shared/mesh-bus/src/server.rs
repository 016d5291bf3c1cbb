//! Whether the server may be trusted with work: its version, and whether it syncs before it
//! acknowledges.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Bus, ServerRefused};

/// Before it a work queue's compaction could skip the sync.
pub const SERVER_VERSION_MIN: &str = "2.15.1";
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const MONITOR_DEADLINE: Duration = Duration::from_secs(3);
const MONITOR_BYTES_MAX: u64 = 1024 * 1024;

/// What to do about a server that syncs lazily, or is not seen to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LazySync {
    /// Do not work on it.
    Refuse,
    /// Accept that a power cut loses acknowledged messages.
    Allow,
}

/// What is known of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    pub version: String,
    /// Whether it syncs each message before it acknowledges it; `None` when that is not seen.
    pub sync_always: Option<bool>,
}

/// The part of `/jsz` that matters here.
#[derive(Deserialize)]
struct Jsz {
    server_id: String,
    #[serde(default)]
    config: JszConfig,
}

#[derive(Default, Deserialize)]
struct JszConfig {
    #[serde(default)]
    sync_always: bool,
}

impl Bus {
    /// Checks the server before any work is done on it; waits up to 30 s for a connection.
    ///
    /// # Errors
    /// What is wrong with it and what to do.
    pub async fn check_server(&self, lazy_sync: LazySync) -> Result<ServerFacts, ServerRefused> {
        let url = self.options().url.clone();
        if !self.wait_connected(CONNECT_DEADLINE).await {
            return Err(ServerRefused::NotConnected { url });
        }
        let info = self.client().server_info();
        let version = info.version.clone();
        if numbers(&version) < numbers(SERVER_VERSION_MIN) {
            let needed = SERVER_VERSION_MIN.to_owned();
            return Err(ServerRefused::TooOld { found: version, needed });
        }
        if !info.jetstream {
            return Err(ServerRefused::NoJetStream { url });
        }
        let is_clustered = info.cluster.as_ref().is_some_and(|name| !name.is_empty());
        let expected = (!is_clustered).then_some(info.server_id.as_str());
        let seen = self.sees_sync(expected).await;
        match (lazy_sync, seen) {
            (_, Ok(true)) => Ok(ServerFacts {
                version,
                sync_always: Some(true),
            }),
            (LazySync::Allow, seen) => Ok(ServerFacts {
                version,
                sync_always: seen.ok(),
            }),
            (LazySync::Refuse, Ok(false)) => Err(ServerRefused::LazySync),
            (LazySync::Refuse, Err(why)) => Err(ServerRefused::Unseen { why }),
        }
    }

    /// Whether `/jsz` shows the sync. In a cluster the monitor may be any member's.
    async fn sees_sync(&self, server_id: Option<&str>) -> Result<bool, String> {
        let urls = self.options().monitor_url.as_deref().unwrap_or_default();
        let mut seen = Err("no monitoring address is set".to_owned());
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            seen = sees_sync_at(url, server_id).await;
            if seen.is_ok() {
                break;
            }
        }
        seen
    }
}

/// Of a cluster, one member may be away: the first that answers counts.
async fn sees_sync_at(url: &str, server_id: Option<&str>) -> Result<bool, String> {
    let answer = tokio::time::timeout(MONITOR_DEADLINE, http_get(url, "/jsz", MONITOR_BYTES_MAX))
        .await
        .map_err(|_| format!("{url} does not answer within {MONITOR_DEADLINE:?}"))?
        .map_err(|error| format!("{url}: {error}"))?;
    let jsz: Jsz = serde_json::from_slice(&answer)
        .map_err(|error| format!("{url}/jsz is not what a nats-server says: {error}"))?;
    match server_id {
        Some(id) if id != jsz.server_id => Err(format!("{url} monitors another nats-server")),
        _ => Ok(jsz.config.sync_always),
    }
}

/// Major, minor, patch; what is no number counts as 0.
fn numbers(version: &str) -> (u32, u32, u32) {
    let mut parts = version.split('.').map(|part| {
        let digits = part.split(|letter: char| !letter.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    });
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// Body of one plain HTTP request: the monitor is on the same machine or network, and this crate
/// needs no HTTP client for it.
pub(crate) async fn http_get(url: &str, path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// addresses are read")?;
    let (authority, base) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let base = base.trim_end_matches('/');
    let base = if base.is_empty() {
        String::new()
    } else {
        format!("/{base}")
    };
    let mut stream = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
    // Version 1.0: the body ends with the connection, without chunks.
    let request = format!("GET {base}{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut bounded = stream.take(bytes_max);
    bounded
        .read_to_end(&mut answer)
        .await
        .map_err(|error| error.to_string())?;
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let head_end = head_end.ok_or("the answer is no HTTP")?;
    let head = String::from_utf8_lossy(&answer[..head_end]);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status == "200" {
        Ok(answer.split_off(head_end + 4))
    } else {
        Err(format!("status {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("2.9.25") < numbers(SERVER_VERSION_MIN));
        assert!(numbers("2.15.0") < numbers(SERVER_VERSION_MIN));
        assert!(numbers("2.15.1") >= numbers(SERVER_VERSION_MIN));
        assert!(numbers("2.16.0-RC.1") >= numbers(SERVER_VERSION_MIN));
        assert!(numbers("") < numbers(SERVER_VERSION_MIN));
    }
}
