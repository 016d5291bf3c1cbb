//! Configuration: what is effective, and what is refused with the nearest known name before anything starts.

use crate::support::{Home, program, text, told};

#[test]
fn unknown_names_are_refused_with_the_nearest_known() {
    for (name, value, nearest) in [
        ("MESH_HTTP_PROT", "1", "MESH_HTTP_PORT"),
        ("MESH_EXECUTION__LANE", "1", "execution.lanes"),
        ("MESH_EXECUTIONS__LANES", "1", "MESH_EXECUTION__LANES"),
    ] {
        let output = program().arg("config").env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(text(&output.stderr).contains(nearest), "{name}: {}", told(&output));
    }
}

#[test]
fn a_wrong_value_names_its_key_and_where_it_was_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.toml");
    std::fs::write(&file, "[execution]\nlanes = 99\n").unwrap();
    for (name, value, told_of) in [
        ("MESH_CONFIG", file.to_str().unwrap(), "execution.lanes"),
        ("MESH_EXECUTION__LANES", "many", "MESH_EXECUTION__LANES"),
        ("MESH_GATEWAY__HOST", "0.0.0.0", "127.0.0.1"),
        ("MESH_HTTP_PORT", "70000", "MESH_HTTP_PORT"),
    ] {
        let output = program().arg("config").env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(text(&output.stderr).contains(told_of), "{name}: {}", told(&output));
    }
}

#[test]
fn the_effective_configuration_names_who_set_it_and_no_secret() {
    let output = program()
        .args(["config", "--changed", "--json"])
        .env("OPENAI_API_KEY", "sk-hunter2")
        .env("MESH_DATABASE_URL", "postgres://mesh:hunter2@db/mesh")
        .env("MESH_EXECUTION__ABORT_AFTER_SEQ", "7")
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(
        output.status.success() && !said.contains("hunter2"),
        "{}",
        told(&output)
    );
    let entries: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let origin = |key: &str| {
        entries
            .iter()
            .find(|entry| entry["key"] == key)
            .map(|entry| entry["origin"].clone())
    };
    assert_eq!(origin("inference.openai_api_key"), Some("OPENAI_API_KEY".into()));
    assert_eq!(
        origin("execution.abort_after_seq"),
        Some("MESH_EXECUTION__ABORT_AFTER_SEQ".into())
    );
}

#[test]
fn up_refuses_a_wrong_configuration_before_it_starts_anything() {
    let home = Home::new();
    let up = home
        .command(&["up", "--detach"])
        .env("MESH_GATEWAY__HOST", "0.0.0.0")
        .output()
        .unwrap();
    assert_eq!(up.status.code(), Some(1), "{}", told(&up));
    assert!(text(&up.stderr).contains("0.0.0.0"), "{}", told(&up));
    assert!(!home.path().join("home").exists(), "nothing was started");
}
