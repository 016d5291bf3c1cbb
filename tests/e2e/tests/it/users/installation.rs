//! The installation: servers, what `mesh setup` made, and every service as a process with its own user.

use std::process::Child;

use async_nats::{Client, ConnectOptions};
use mesh_runtime::config::SECTIONS;
use mesh_servers::{NatsOptions, NatsServer, NatsTool, Postgres, Quiet, ScratchDir};
use serde_json::{Value, json};

use crate::harness::{FakeModel, Http, Launch, Ran, free_port, start_postgres, until};

/// Those of the centre: the node comes with its token.
fn services() -> impl Iterator<Item = &'static str> {
    SECTIONS.into_iter().filter(|section| *section != "node")
}

pub(super) struct Installation {
    children: Vec<Child>,
    launch: Launch,
    pub(super) model: FakeModel,
    pub(super) http: Http,
    pub(super) nats: NatsServer,
    nats_port: u16,
    monitor_url: String,
    pub(super) postgres: Postgres,
    // Last: whoever still runs must not lose its files first.
    pub(super) folder: ScratchDir,
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.launch.kill_all();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `mesh setup` wrote for one of them.
pub(super) fn made(folder: &ScratchDir, path: &str) -> String {
    let text = std::fs::read_to_string(folder.path().join("made").join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

async fn nats_with_users(folder: &ScratchDir, port: u16, monitor_port: u16) -> NatsServer {
    let options = NatsOptions {
        port,
        monitor_port,
        extra_config: made(folder, "nats/users.conf"),
        ..NatsOptions::new(folder.path().join("nats"))
    };
    let start = move || NatsServer::start(&NatsTool::resolve(&mut Quiet)?, options);
    tokio::task::spawn_blocking(start)
        .await
        .unwrap()
        .expect("nats-server starts")
}

impl Installation {
    pub(super) async fn start() -> Self {
        let folder = ScratchDir::new().unwrap();
        let model = FakeModel::start();
        let [nats_port, monitor_port, http_port, postgres_port] = [(); 4].map(|()| free_port());
        let postgres = start_postgres(&folder, postgres_port).await;
        let to = folder.path().join("made").display().to_string();
        let server = format!("127.0.0.1:{nats_port}");
        let uid = nix::unistd::Uid::effective().to_string();
        let first = Launch::new(&[]);
        let database = format!("127.0.0.1:{postgres_port}");
        let servers = ["--nats", &server, "--postgres", &database];
        let setup = [&["setup", &to, "--node", "kitchen", "--uid", &uid][..], &servers].concat();
        let setup = first.run(&setup).await;
        assert_eq!(setup.code, Some(0), "{setup:?}");
        let nats = nats_with_users(&folder, nats_port, monitor_port).await;
        let of_identity: Value = serde_json::from_str(&made(&folder, "identity/config.json")).unwrap();
        let secret = |name: &str| of_identity["identity"][name].as_str().unwrap().to_owned();
        let monitor_url = format!("http://127.0.0.1:{monitor_port}");
        let launch = Launch::new(&[
            ("MESH_HTTP_PORT", http_port.to_string()),
            ("MESH_NATS_MONITOR_URL", monitor_url.clone()),
            ("MESH_DATABASE_URL", postgres.url()),
            ("MESH_REQUIRE_CREDENTIALS", "1".to_owned()),
            ("MESH_IDENTITY__NATS_ISSUER_SEED", secret("nats_issuer_seed")),
            ("MESH_IDENTITY__NATS_SYSTEM", secret("nats_system")),
            ("MESH_REGISTRY__AUTO_CREATE_TENANTS", "true".to_owned()),
            ("MESH_MESSAGING__AUTO_CREATE_CHANNELS", "true".to_owned()),
            ("OPENAI_BASE_URL", model.base_url()),
            ("OPENAI_API_KEY", "of-a-test".to_owned()),
        ]);
        let http = Http::new(format!("http://127.0.0.1:{http_port}"));
        let mut installation = Self {
            children: Vec::new(),
            launch,
            model,
            http,
            nats,
            nats_port,
            monitor_url,
            postgres,
            folder,
        };
        installation.job("migrate", &["migrate"]).await;
        installation.serve();
        let home = installation.folder.path().join("home").display().to_string();
        installation
            .job(
                "seed",
                &["seed", &to, "--node", "kitchen", "--home", &home, "--uid", &uid],
            )
            .await;
        let key = std::fs::read_to_string(installation.folder.path().join("home/api-key")).unwrap();
        installation.http = installation.http.key(key.trim());
        let token = made(&installation.folder, "kitchen/token");
        let node_home = installation.folder.path().join("node").display().to_string();
        let address = format!("nats://{server}");
        let node = installation.launch.spawn(
            &["node", "--url", &address, "--id", "kitchen", "--slots", "4"],
            &[
                ("MESH_NODE_TOKEN", &token),
                ("MESH_HOME", &node_home),
                ("AGENT_NODE_HEARTBEAT_SECONDS", "1"),
                ("MESH_NODE__LOCAL", "false"),
            ],
            &installation.log("node"),
        );
        installation.children.push(node);
        installation
    }

    pub(super) fn serve(&mut self) {
        for service in services() {
            self.spawn(service, service, &["serve", service]);
        }
    }

    /// All that runs of the program; the servers stay.
    pub(super) fn kill_services(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }

    /// Runs the program to its end as one of the users, with this address of the database.
    pub(super) async fn as_user(&self, user: &str, database: &str, arguments: &[&str]) -> Ran {
        let launch = Launch::new(&[
            ("MESH_NATS_URL", made(&self.folder, &format!("{user}/nats-url"))),
            ("MESH_NATS_MONITOR_URL", self.monitor_url.clone()),
            ("MESH_DATABASE_URL", database.to_owned()),
            ("MESH_HOME", self.folder.path().join("of-jobs").display().to_string()),
        ]);
        launch.run(arguments).await
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// Starts the program as one of the users.
    fn spawn(&mut self, user: &str, name: &str, arguments: &[&str]) {
        let url = made(&self.folder, &format!("{user}/nats-url"));
        let child = self
            .launch
            .spawn(arguments, &[("MESH_NATS_URL", &url)], &self.log(name));
        self.children.push(child);
    }

    async fn job(&mut self, user: &str, arguments: &[&str]) {
        self.spawn(user, user, arguments);
        let mut child = self.children.pop().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait())
            .await
            .unwrap()
            .unwrap();
        let log = std::fs::read_to_string(self.log(user)).unwrap_or_default();
        assert!(ended.success(), "{user}: {log}");
    }

    /// A program with the key of the command line.
    pub(super) async fn client(&self) -> Client {
        let context = std::fs::read(self.folder.path().join("home/nats/context/mesh.json")).unwrap();
        let context: Value = serde_json::from_slice(&context).unwrap();
        let text = |name: &str| context[name].as_str().unwrap().to_owned();
        let options = ConnectOptions::with_user_and_password(text("user"), text("password"));
        let options = options.custom_inbox_prefix(text("inbox_prefix"));
        options.connect(format!("127.0.0.1:{}", self.nats_port)).await.unwrap()
    }

    pub(super) async fn completed(&self, agent: &str, payload: Value) -> Value {
        let ended = until(90, "an invocation ends", || async {
            let answer = self
                .http
                .invoke(agent, "?wait=20", &json!({ "payload": payload }))
                .await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        assert_eq!(ended["state"], "completed", "{ended}");
        ended
    }

    /// What nats-server and the processes say of refused subjects.
    pub(super) fn refused(&self) -> Vec<String> {
        let logs = services().chain(["migrate", "seed", "node"]).map(|name| self.log(name));
        let texts = logs
            .chain([self.nats.log_path()])
            .map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let is_refusal = |line: &&str| {
            let line = line.to_lowercase();
            ["permissions violation", "publish violation", "subscription violation"]
                .iter()
                .any(|words| line.contains(words))
        };
        let found = texts.flat_map(|text| text.lines().filter(is_refusal).map(str::to_owned).collect::<Vec<_>>());
        found.collect()
    }
}
