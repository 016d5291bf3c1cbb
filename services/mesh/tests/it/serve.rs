//! `mesh serve`: processes of their own on servers that somebody else runs, started in any order.

use std::process::{Child, Stdio};

use mesh_servers::{NatsOptions, NatsServer, Postgres, PostgresOptions, Quiet, Tools, free_port};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Home, answers, text, told, wait_until};

struct Servers {
    nats: NatsServer,
    postgres: Postgres,
}

/// Addresses are known before anyone listens there.
struct Addresses {
    nats_port: u16,
    monitor_port: u16,
    postgres: String,
}

impl Addresses {
    fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("MESH_NATS_URL", format!("nats://127.0.0.1:{}", self.nats_port)),
            (
                "MESH_NATS_MONITOR_URL",
                format!("http://127.0.0.1:{}", self.monitor_port),
            ),
            ("MESH_DATABASE_URL", self.postgres.clone()),
        ]
    }
}

/// One process for one test; killed when the test fails.
struct Served(Child);

impl Served {
    fn start(home: &Home, addresses: &Addresses, services: &[&str], http_port: u16) -> Self {
        Self::start_with(home, addresses, services, http_port, &[])
    }

    fn start_with(
        home: &Home,
        addresses: &Addresses,
        services: &[&str],
        http_port: u16,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = home.command(&["serve"]);
        command
            .args(services)
            .envs(addresses.environment())
            .envs(environment.iter().copied())
            .env("MESH_HTTP_PORT", http_port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already where it was stopped in order.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn services_start_before_their_servers_and_outlive_them() {
    let home = Home::new();
    let tools = Tools::resolve(&mut Quiet).unwrap();
    let postgres = Postgres::start(&tools, PostgresOptions::new(home.path().join("postgres"))).unwrap();
    let ports = [(); 4].map(|()| free_port().unwrap());
    let addresses = Addresses {
        nats_port: ports[0],
        monitor_port: ports[1],
        postgres: postgres.url(),
    };
    let url = format!("http://127.0.0.1:{}", ports[2]);

    let edge = Served::start(&home, &addresses, &["gateway"], ports[2]);
    let ops_port = ports[3].to_string();
    let behind = [("MESH_OPS_PORT", ops_port.as_str()), ("MESH_LOG_FORMAT", "json")];
    let behind = Served::start_with(&home, &addresses, &["execution", "registry"], 0, &behind);
    let rest = Served::start(&home, &addresses, &["messaging", "memory", "inference"], 0);
    wait_until("the gateway listens", || answers(&url).then_some(()));
    let ops = format!("http://127.0.0.1:{ops_port}");
    wait_until("the operation routes listen", || answers(&ops).then_some(()));
    let early = home.run(&["doctor", "--url", &url]);
    assert!(text(&early.stdout).contains("not healthy"), "{}", told(&early));

    let options = NatsOptions {
        port: addresses.nats_port,
        monitor_port: addresses.monitor_port,
        ..NatsOptions::new(home.path().join("nats"))
    };
    let mut servers = Servers {
        nats: NatsServer::start(&tools, options).unwrap(),
        postgres,
    };
    let migrated = home
        .command(&["migrate"])
        .envs(addresses.environment())
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{}", told(&migrated));

    a_tenant_is_refused(&home, &url);

    servers.nats.kill().unwrap();
    servers.postgres.kill().unwrap();
    servers.postgres.restart().unwrap();
    servers.nats.restart().unwrap();
    wait_until("all services answer again", || {
        let services = home.run(&["services", "--url", &url, "--json"]);
        let names = text(&services.stdout);
        ["registry", "execution", "messaging", "memory", "inference"]
            .iter()
            .all(|name| names.contains(name))
            .then_some(())
    });
    for process in [edge, behind, rest] {
        process.stop();
    }
}

fn a_tenant_is_refused(home: &Home, url: &str) {
    let path = home.path().join("a.yaml");
    std::fs::write(&path, "metadata: {name: a}\nspec: {runtime: noop, noop: {steps: 1}}\n").unwrap();
    let file = path.to_str().unwrap();
    // No demo here: a tenant is created where the registry is told to, which it is not.
    let refused = wait_until("the registry answers", || {
        let applied = home.run(&["apply", "-f", file, "--url", url]);
        text(&applied.stderr)
            .contains("registry/")
            .then(|| text(&applied.stderr))
    });
    assert!(refused.contains("registry/tenant-not-found"), "{refused}");
}

#[test]
fn a_lazy_server_is_refused_by_name() {
    let home = Home::new();
    let tools = Tools::resolve(&mut Quiet).unwrap();
    let options = NatsOptions {
        lazy_sync: true,
        ..NatsOptions::new(home.path().join("nats"))
    };
    let nats = NatsServer::start(&tools, options).unwrap();
    let mut command = home.command(&["serve", "inference"]);
    command
        .env("MESH_NATS_URL", nats.url())
        .env("MESH_NATS_MONITOR_URL", nats.monitor_url());
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
    assert!(
        text(&refused.stderr).contains("MESH_ALLOW_LAZY_SYNC=1"),
        "{}",
        told(&refused)
    );
    let unnamed = home.run(&["serve", "inference"]);
    assert_eq!(unnamed.status.code(), Some(2), "{}", told(&unnamed));
    assert!(text(&unnamed.stderr).contains("MESH_NATS_URL"), "{}", told(&unnamed));
}
