//! `mesh support-bundle`: what helps is in it, and no secret that this mesh knows or that stood in its log.

use std::io::{Read, Write};

use crate::harness::Mesh;

#[tokio::test]
async fn the_bundle_has_its_parts_and_none_of_the_planted_secrets() {
    let planted = "hunter2hunter2hunter2";
    let mesh = Mesh::up_with(&[
        ("MESH_REQUIRE_CREDENTIALS", "1".to_owned()),
        ("OPENAI_API_KEY", format!("sk-proj-{planted}")),
        ("ANTHROPIC_API_KEY", planted.to_owned()),
    ])
    .await;
    let key = mesh.admin_key();
    let password = mesh
        .state()
        .nats
        .split('@')
        .next()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let home = mesh.home().to_owned();
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.join("mesh.log"))
        .unwrap();
    writeln!(
        log,
        "cannot reach postgres://mesh:{planted}@db/mesh with Bearer {planted} and {key}"
    )
    .unwrap();
    writeln!(
        log,
        r#"{{"password":"{planted}","nats":"{password}","token":"mjt_{planted}"}}"#
    )
    .unwrap();
    let file = home.join("support.tar.gz");
    let told = mesh
        .cli(&["support-bundle", "--to", file.to_str().unwrap(), "--json"])
        .await
        .json();
    assert_eq!(told["missing"], serde_json::json!([]), "{told}");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()));
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        for secret in [planted, key.as_str(), password.as_str()] {
            assert!(!text.contains(secret), "{name} holds a secret");
        }
        assert!(!text.is_empty(), "{name}");
        names.push(name);
    }
    for part in [
        "config.json",
        "doctor.json",
        "streams.json",
        "metrics.txt",
        "logs/mesh.log",
    ] {
        assert!(names.iter().any(|name| name.ends_with(part)), "{part}: {names:?}");
    }
}
