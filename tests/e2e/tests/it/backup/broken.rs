//! What `mesh restore` refuses, and what is there after it was killed.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Mesh, kill_9};

/// The archive with its manifest changed, and its hash with it.
fn rewritten(from: &Path, to: &Path, change: impl Fn(&mut Value)) {
    let mut archive = tar::Archive::new(std::fs::File::open(from).unwrap());
    let mut fresh = tar::Builder::new(std::fs::File::create(to).unwrap());
    let mut hash = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path == Path::new("manifest.json") {
            let mut manifest: Value = serde_json::from_slice(&content).unwrap();
            change(&mut manifest);
            content = serde_json::to_vec(&manifest).unwrap();
            hash = hex::encode(Sha256::digest(&content));
        }
        if path == Path::new("manifest.sha256") {
            content = hash.clone().into_bytes();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        fresh.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    fresh.finish().unwrap();
}

async fn archive(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("backup.tar");
    let mesh = Mesh::up().await;
    let made = mesh.cli(&["backup", "--to", path.to_str().unwrap()]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let again = mesh.cli(&["backup", "--to", path.to_str().unwrap()]).await;
    assert!(
        again.code == Some(1) && again.stderr.contains("is there already"),
        "{again:?}"
    );
    let running = mesh.cli(&["restore", path.to_str().unwrap()]).await;
    assert!(
        running.code == Some(1) && running.stderr.contains("mesh down"),
        "{running:?}"
    );
    path
}

#[tokio::test]
async fn a_file_that_is_not_whole_or_too_new_changes_nothing_and_a_kill_is_made_good_by_a_second_run() {
    let folder = tempfile::tempdir().unwrap();
    let whole = archive(folder.path()).await;
    let (changed, mesh) = (folder.path().join("changed.tar"), Mesh::prepare(&[]));
    let told = async || {
        let ran = mesh.cli(&["restore", changed.to_str().unwrap()]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.stderr
    };
    let bytes = std::fs::read(&whole).unwrap();
    let mut damaged = bytes.clone();
    // Within the first part: its header is the first block.
    damaged[600] ^= 1;
    std::fs::write(&changed, &damaged).unwrap();
    assert!(told().await.contains("not what was written"));
    std::fs::write(&changed, &bytes[..bytes.len() / 2]).unwrap();
    assert!(told().await.contains("no whole backup"));
    rewritten(&whole, &changed, |manifest| {
        manifest["database"]["schema"] = 9_999.into()
    });
    assert!(told().await.contains("with schema 9999"));
    rewritten(&whole, &changed, |manifest| {
        manifest["database"]["tables"][0]["rows"] = 77.into()
    });
    assert!(told().await.contains("77 were written"));

    // Killed while rows come in: nothing is committed, and the same command is enough.
    let log = folder.path().join("restore.log");
    let mut child = mesh.launch.spawn(&["restore", whole.to_str().unwrap()], &[], &log);
    let end = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&log).unwrap().contains("tables of PostgreSQL") {
        assert!(Instant::now() < end, "{}", std::fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_9(child.id());
    child.wait().unwrap();
    let again = mesh.cli(&["restore", whole.to_str().unwrap()]).await;
    assert_eq!(again.code, Some(0), "{again:?}");

    // Killed between PostgreSQL and NATS: the mark of it stands, and the second run needs no --replace.
    mesh.start(&[]).await;
    let pool = mesh.database().await;
    let mark = "CREATE TABLE public._mesh_restore (at timestamptz NOT NULL DEFAULT now())";
    sqlx::query(mark).execute(&pool).await.unwrap();
    pool.close().await;
    let doctor = mesh.cli(&["doctor"]).await;
    assert!(
        doctor.code == Some(1) && doctor.stdout.contains("cut off"),
        "{doctor:?}"
    );
    assert_eq!(mesh.cli(&["down"]).await.code, Some(0));
    let again = mesh.cli(&["restore", whole.to_str().unwrap()]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    mesh.start(&[]).await;
    let asked = mesh
        .http()
        .invoke("sofia", "?wait=40", &serde_json::json!({"payload": {"text": "hi"}}))
        .await;
    assert_eq!(asked.status, 200, "{asked:?}");
}
