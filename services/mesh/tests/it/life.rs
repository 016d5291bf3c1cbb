//! The life of a mesh: up, seen, refused a second time, its servers killed, down, and nothing left.

use std::net::TcpListener;
use std::process::Command;

use mesh_servers::{Found, processes_with_environment};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Home, assert_nothing_is_left, text, told, wait_until};

#[test]
fn a_detached_mesh_is_seen_refuses_a_second_and_goes_down_without_a_trace() {
    let home = Home::new();
    let up = home.done(&["up", "--detach"]);
    assert!(
        up.contains("Agent Mesh is up") && up.contains("http://127.0.0.1:"),
        "{up}"
    );
    assert!(up.contains("mesh:***@"), "the table shows no password: {up}");

    let status = home.json(&["status"]);
    assert_eq!(status["healthy"], true, "{status}");
    let names: Vec<_> = status["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "registry",
            "identity",
            "heartbeat",
            "execution",
            "messaging",
            "memory",
            "inference",
            "reconciler",
            "gateway"
        ]
    );

    let second = home.run(&["up"]);
    let pid = status["pid"].to_string();
    assert_eq!(second.status.code(), Some(1), "{}", told(&second));
    assert!(text(&second.stderr).contains(&pid), "{}", told(&second));

    for tenant in ["default", "daarion"] {
        let agents = home.json(&["get", "agents", "--tenant", tenant]);
        let sofia = &agents["items"][0];
        assert_eq!(
            (sofia["metadata"]["name"].as_str(), &sofia["status"]["draft"]),
            (Some("sofia"), &false.into())
        );
    }
    assert!(
        home.done(&["logs", "execution"])
            .lines()
            .all(|line| line.contains(" execution "))
    );

    home.done(&["down"]);
    assert_nothing_is_left(&status);
    assert_eq!(home.run(&["status"]).status.code(), Some(1));
    assert!(home.done(&["down"]).contains("no mesh runs"));
}

#[test]
fn a_signal_stops_a_foreground_mesh_in_order_and_its_data_stay() {
    let home = Home::new();
    let (mut mesh, status) = home.foreground();
    home.done(&["apply", "-f", &agent_file(&home)]);
    kill(Pid::from_raw(i32::try_from(mesh.id()).unwrap()), Signal::SIGINT).unwrap();
    let ended = mesh.wait().unwrap();
    assert!(ended.success(), "{ended}: {}", text(&home.run(&["logs"]).stdout));
    assert_nothing_is_left(&status);

    let (mut mesh, status) = home.foreground();
    assert_eq!(
        home.json(&["get", "agents", "kept"])["status"]["published"]["version"],
        1
    );
    home.done(&["down"]);
    assert!(mesh.wait().unwrap().success());
    assert_nothing_is_left(&status);
}

#[test]
fn a_killed_mesh_and_its_servers_are_succeeded_by_the_next() {
    let home = Home::new();
    let (mut mesh, _) = home.foreground();
    mesh.kill().unwrap();
    mesh.wait().unwrap();
    let status = home.run(&["status", "--json"]);
    assert_eq!(status.status.code(), Some(1), "{}", told(&status));
    home.done(&["up", "--detach"]);
    assert_eq!(home.json(&["status"])["healthy"], true);
}

#[test]
fn servers_that_die_come_back_and_the_services_outlive_them() {
    let home = Home::new();
    home.done(&["up", "--detach"]);
    for server in ["nats-server", "postgres"] {
        let found = server_of(&home, server);
        kill(Pid::from_raw(i32::try_from(found.pid).unwrap()), Signal::SIGKILL).unwrap();
        wait_until("the server is another process", || {
            let servers = servers_of(&home, server);
            servers
                .iter()
                .any(|one| one.pid != found.pid && is_main(one))
                .then_some(())
        });
        wait_until("the mesh is healthy again", || home.healthy());
    }
    let answered = wait_until("the agent answers", || {
        let invoked = home.run(&["invoke", "sofia", "hello", "--json"]);
        invoked.status.success().then(|| text(&invoked.stdout))
    });
    assert!(answered.contains(r#""provider": "mock""#), "{answered}");
}

#[test]
fn a_taken_port_is_told_with_the_variable_that_changes_it() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for variable in ["MESH_HTTP_PORT", "MESH_NATS_PORT", "MESH_POSTGRES_PORT"] {
        let up = home.command(&["up"]).env(variable, &port).output().unwrap();
        assert_eq!(up.status.code(), Some(1), "{}", told(&up));
        let said = text(&up.stderr);
        assert!(said.contains(variable) && said.contains(&port), "{said}");
    }
}

#[test]
fn a_reset_needs_a_yes_and_leaves_no_data() {
    let home = Home::new();
    home.done(&["up", "--detach", "--no-demo"]);
    assert!(
        home.done(&["get", "agents"]).is_empty(),
        "--no-demo leaves the demo out"
    );
    let asked = home.run(&["reset"]);
    assert_eq!(asked.status.code(), Some(2), "{}", told(&asked));
    assert_eq!(
        home.json(&["status"])["healthy"],
        true,
        "nothing happened without the yes"
    );
    home.done(&["reset", "--yes"]);
    assert!(home.healthy().is_none());
    for name in ["nats", "postgres", "mesh.log"] {
        assert!(!home.path().join("home").join(name).exists(), "{name} is left");
    }
}

fn agent_file(home: &Home) -> String {
    let path = home.path().join("kept.yaml");
    std::fs::write(
        &path,
        "metadata: {name: kept}\nspec: {runtime: noop, noop: {steps: 1}}\n",
    )
    .unwrap();
    path.display().to_string()
}

fn servers_of(home: &Home, program: &str) -> Vec<Found> {
    let entry = format!("MESH_HOME={}", home.path().join("home").display());
    let found = processes_with_environment(&entry).unwrap_or_default();
    let runs = |one: &Found| one.arguments.first().is_some_and(|first| first.ends_with(program));
    found.into_iter().filter(runs).collect()
}

/// Not one of Postgres's workers, which carry no folder on their command line.
fn is_main(found: &Found) -> bool {
    found
        .arguments
        .iter()
        .any(|argument| argument == "-D" || argument == "-c")
}

fn server_of(home: &Home, program: &str) -> Found {
    let found = servers_of(home, program).into_iter().find(is_main);
    found.unwrap_or_else(|| panic!("{program} is not among {}", processes()))
}

fn processes() -> String {
    text(
        &Command::new("ps")
            .arg("axww")
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default(),
    )
}
