//! One nats-server with JetStream in one folder: `nats.conf`, `nats.log`, `jetstream/`. Streams
//! and their limits belong to the bus's topology, not here.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use serde::Deserialize;

use crate::nats_users::{NatsUsers, quoted};
use crate::process::{self, Server, StopPlan};
use crate::tools::NATS_VERSION_MIN;
use crate::{NATS_PORT_VARIABLE, NatsTool, ServersError, Version, files, ports, probe};

const READY_DEADLINE: Duration = Duration::from_secs(15);
const STOP: StopPlan = &[
    (Signal::SIGTERM, Duration::from_secs(10)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];
/// JetStream's disk: a full disk loses the server until a restart, so it stops well before.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
const FREE_DISK_PERCENT: u64 = 60;

/// What a nats-server is started with.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Its folder, created if needed.
    pub dir: PathBuf,
    /// Client port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Port of HTTP monitoring on 127.0.0.1; 0 takes a free one.
    pub monitor_port: u16,
    /// Server name.
    pub name: String,
    /// Leaves syncing to the server's lazy default (minutes): for tests that prove it is refused,
    /// or that need no durability.
    pub lazy_sync: bool,
    /// Who may connect; `None`: everybody.
    pub users: Option<NatsUsers>,
    /// More configuration, appended as it is.
    pub extra_config: String,
}

impl NatsOptions {
    /// A durable server in that folder, on free ports.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            port: 0,
            monitor_port: 0,
            name: "mesh".to_owned(),
            lazy_sync: false,
            users: None,
            extra_config: String::new(),
        }
    }
}

/// A running nats-server; stopped when dropped.
#[derive(Debug)]
pub struct NatsServer {
    tool: NatsTool,
    options: NatsOptions,
    dir: PathBuf,
    server: Server,
    port: u16,
    monitor_port: u16,
}

impl NatsServer {
    /// Starts a server and waits until it is healthy, JetStream included (at most 15 s). One that
    /// a killed predecessor left running on the same folder is stopped first.
    ///
    /// # Errors
    /// [`ServersError::PortBusy`]; [`ServersError::Start`] with the end of the log.
    pub fn start(tool: &(impl AsRef<NatsTool> + ?Sized), options: NatsOptions) -> Result<Self, ServersError> {
        let tool = tool.as_ref().clone();
        files::create_folder(&options.dir, 0o711)?;
        let dir = files::canonical(&options.dir)?;
        stop_leftover_at(&dir)?;
        let (server, port, monitor_port) = launch(&tool, &options, &dir)?;
        Ok(Self {
            tool,
            options,
            dir,
            server,
            port,
            monitor_port,
        })
    }

    /// Stops a server that a killed predecessor left running on that folder, if there is one.
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn stop_leftover(dir: &Path) -> Result<(), ServersError> {
        fs::canonicalize(dir).map_or(Ok(()), |dir| stop_leftover_at(&dir))
    }

    /// Address for clients, `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Address of HTTP monitoring, without a slash at its end.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// Client port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        log_path(&self.dir)
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.server.exit().is_none()
    }

    /// How it ended and the end of its log, if it has ended.
    pub fn exit(&mut self) -> Option<String> {
        let status = self.server.exit()?;
        Some(format!("{status}\n{}", self.server.log_tail()))
    }

    /// Stops it in order; what it acknowledged is on disk.
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn stop(&mut self) -> Result<(), ServersError> {
        self.server.stop(STOP)
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// [`ServersError::WillNotStop`].
    pub fn kill(&mut self) -> Result<(), ServersError> {
        self.server.stop(process::KILL)
    }

    /// Starts it again on the same folder and ports, stopping it first if it lives.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn restart(&mut self) -> Result<(), ServersError> {
        self.stop()?;
        let options = NatsOptions {
            port: self.port,
            monitor_port: self.monitor_port,
            ..self.options.clone()
        };
        (self.server, self.port, self.monitor_port) = launch(&self.tool, &options, &self.dir)?;
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // Nobody is left to tell; the next start stops what stayed.
        let _ = self.stop();
    }
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("nats.log")
}

fn config_path(dir: &Path) -> PathBuf {
    dir.join("nats.conf")
}

fn stop_leftover_at(dir: &Path) -> Result<(), ServersError> {
    let config = config_path(dir);
    let arguments = ["-c", &*config.to_string_lossy()];
    let ours = |found: &process::Found| found.runs("nats-server", &arguments);
    process::all()
        .iter()
        .filter(|found| ours(found))
        .try_for_each(|found| process::stop_found(found, STOP))
}

fn launch(tool: &NatsTool, options: &NatsOptions, dir: &Path) -> Result<(Server, u16, u16), ServersError> {
    for port in [options.port, options.monitor_port] {
        if port != 0 {
            ports::check_free(port, NATS_PORT_VARIABLE)?;
        }
    }
    // The server writes the ports it got into this folder, so that nobody guesses a free one.
    let ports_dir = dir.join("ports");
    if ports_dir.exists() {
        fs::remove_dir_all(&ports_dir).map_err(ServersError::io("empty", &ports_dir))?;
    }
    files::create_folder(&ports_dir, 0o755)?;
    let config = config_path(dir);
    files::write_private(&config, render(options, dir).as_bytes())?;
    let mut command = Command::new(&tool.program);
    command.arg("-c").arg(&config).current_dir(dir);
    let mut server = Server::spawn("nats-server", command, &log_path(dir))?;
    match wait_healthy(&mut server, options, &ports_dir) {
        Ok((port, monitor_port)) => Ok((server, port, monitor_port)),
        Err(error) => {
            let tail = server.log_tail();
            server.stop(STOP)?;
            // Someone was faster between our look at the port and the server's bind.
            if options.port != 0 && tail.contains("address already in use") {
                return Err(ServersError::PortBusy {
                    port: options.port,
                    variable: NATS_PORT_VARIABLE,
                });
            }
            Err(error)
        }
    }
}

fn wait_healthy(server: &mut Server, options: &NatsOptions, ports_dir: &Path) -> Result<(u16, u16), ServersError> {
    let (port, monitor_port) = server.wait_ready(READY_DEADLINE, || read_ports(ports_dir))?;
    let info = server.wait_ready(READY_DEADLINE, || probe::nats_info(port).ok())?;
    let version = info["version"].as_str().and_then(Version::find);
    if version.is_none_or(|version| version < NATS_VERSION_MIN) {
        let found = &info["version"];
        return Err(server.start_error(format!("it is {found}, and must be {NATS_VERSION_MIN}")));
    }
    server.wait_ready(READY_DEADLINE, || {
        let (status, _) = probe::http_get(monitor_port, "/healthz").ok()?;
        (status == 200).then_some(())
    })?;
    if !options.lazy_sync && !syncs_always(monitor_port) {
        return Err(server.start_error("its /jsz does not show `sync_always`".to_owned()));
    }
    Ok((port, monitor_port))
}

fn syncs_always(monitor_port: u16) -> bool {
    let Ok((200, body)) = probe::http_get(monitor_port, "/jsz") else {
        return false;
    };
    let Ok(jsz) = serde_json::from_str::<serde_json::Value>(&body) else {
        return false;
    };
    jsz["config"]["sync_always"] == true
}

/// Client and monitoring port from the file the server writes; `None` until it is complete.
fn read_ports(folder: &Path) -> Option<(u16, u16)> {
    #[derive(Deserialize)]
    struct Ports {
        nats: Vec<String>,
        monitoring: Vec<String>,
    }
    let port = |urls: &[String]| urls.first()?.rsplit(':').next()?.parse().ok();
    let entry = fs::read_dir(folder).ok()?.find_map(Result::ok)?;
    let ports: Ports = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
    Some((port(&ports.nats)?, port(&ports.monitoring)?))
}

/// The server's configuration. Loopback only; every limit explicit.
fn render(options: &NatsOptions, dir: &Path) -> String {
    let port = |port: u16| if port == 0 { -1 } else { i32::from(port) };
    let store = dir.join("jetstream");
    let sync = if options.lazy_sync {
        ""
    } else {
        "\n  sync_interval: always"
    };
    let mut config = format!(
        r#"# Written by mesh-servers at every start: changes here are lost.
server_name: {name}
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
ports_file_dir: {ports}
max_payload: 8MB
max_connections: 4096
ping_interval: "20s"
ping_max: 3
write_deadline: "10s"
jetstream {{
  store_dir: {store}{sync}
  max_memory_store: 256MB
  max_file_store: {file_bytes}
}}
"#,
        name = quoted(&options.name),
        port = port(options.port),
        monitor = port(options.monitor_port),
        ports = quoted(&dir.join("ports").to_string_lossy()),
        store = quoted(&store.to_string_lossy()),
        file_bytes = file_bytes(dir),
    );
    config += &options.users.as_ref().map_or_else(String::new, NatsUsers::render);
    writeln!(config, "{}", options.extra_config.trim()).expect("a String takes everything");
    config
}

/// Bytes JetStream may use: at most 10 GB, and at most 60 % of what is free now.
fn file_bytes(dir: &Path) -> u64 {
    let free = statvfs(dir).map_or(FILE_BYTES_MAX, |stat| {
        // Their width differs between systems.
        let bytes = u128::from(stat.blocks_available()) * u128::from(stat.fragment_size());
        u64::try_from(bytes).unwrap_or(u64::MAX)
    });
    FILE_BYTES_MAX.min(free / 100 * FREE_DISK_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_durable_bounded_and_loopback_only() {
        let mut options = NatsOptions::new("/somewhere");
        options.extra_config = "debug: true".to_owned();
        let text = render(&options, Path::new("/"));
        for line in ["listen: \"127.0.0.1:-1\"", "sync_interval: always", "max_payload: 8MB"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("debug: true\n") && !text.contains("0.0.0.0"), "{text}");
        options.lazy_sync = true;
        options.port = 4222;
        let text = render(&options, Path::new("/"));
        assert!(
            !text.contains("sync_interval") && text.contains("127.0.0.1:4222"),
            "{text}"
        );
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted(r#"a" b\"#), r#""a\" b\\""#);
    }

    #[test]
    fn ports_are_read_when_the_file_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_ports(folder.path()), None);
        let path = folder.path().join("nats-server_1.ports");
        fs::write(&path, r#"{"nats":["nats://127.0.0.1:1"#).unwrap();
        assert_eq!(read_ports(folder.path()), None);
        let whole = r#"{"nats":["nats://127.0.0.1:4001"],"monitoring":["http://127.0.0.1:4002"]}"#;
        fs::write(&path, whole).unwrap();
        assert_eq!(read_ports(folder.path()), Some((4001, 4002)));
    }
}
