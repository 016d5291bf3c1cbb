//! Archives that are whole, cut off, damaged, foreign or newer.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

fn manifest(parts: Vec<Part>) -> Manifest {
    let mut manifest: Manifest = serde_json::from_value(json!({
        "format": FORMAT, "mesh": "0.1.0", "created_at": "2026-11-21T12:00:00Z", "nats_server": "2.15.1",
        "database": {"server": "18", "schema": 20, "tables": [], "sequences": [], "weeks": [], "relayed": {"0": 7}},
        "streams": [{"name": "EVENTS", "config": {}, "state": {"messages": 3}, "parts": []}],
    }))
    .unwrap();
    manifest.streams[0].parts = parts;
    manifest
}

fn written(path: &Path, content: &[u8], packing: Packing) -> Manifest {
    let mut writer = Writer::create(path, Timestamp::from_millis(1_000)).unwrap();
    let mut parts = writer.parts("nats/EVENTS", packing);
    content.chunks(1_000_000).for_each(|chunk| parts.write(chunk).unwrap());
    let manifest = manifest(parts.finish().unwrap());
    writer.finish(&manifest).unwrap();
    manifest
}

fn content_of(archive: &Archive) -> Vec<u8> {
    let mut content = Vec::new();
    for part in archive.manifest.parts() {
        archive.unpacked(part).unwrap().read_to_end(&mut content).unwrap();
    }
    content
}

/// Bytes that do not pack well.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn what_was_written_comes_back_in_parts_and_is_its_owners_only() {
    let folder = tempfile::tempdir().unwrap();
    for (name, packing) in [("a", Packing::Gzip), ("b", Packing::AsTheyAre)] {
        let (path, content) = (folder.path().join(name), noise(9_000_000));
        let manifest = written(&path, &content, packing);
        assert!(manifest.parts().count() >= 2);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let archive = Archive::open(&path, |_| {}).unwrap();
        assert_eq!(content_of(&archive), content);
        assert_eq!(archive.manifest.messages()["EVENTS"], 3);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "no partial file stays");
}

#[test]
fn nothing_is_written_twice_and_a_run_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    written(&path, b"", Packing::Gzip);
    assert!(Writer::create(&path, Timestamp::EPOCH).is_err());
    let other = folder.path().join("y");
    let mut writer = Writer::create(&other, Timestamp::EPOCH).unwrap();
    writer.add("a", b"b").unwrap();
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_a_cut_and_a_foreign_file_are_told_apart_from_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    written(&path, &noise(5_000_000), Packing::AsTheyAre);
    let whole = std::fs::read(&path).unwrap();
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Archive::open(&path, |_| {}).err().map(|error| error.to_string())
    };
    assert_eq!(told(&whole), None);
    let mut flipped = whole.clone();
    flipped[2_000_000] ^= 1;
    assert!(told(&flipped).unwrap().contains("not what was written"));
    let at = whole.windows(8).rposition(|window| window == b"messages").unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    assert!(told(&flipped).unwrap().contains("manifest"));
    for length in [0, 100, 3_000_000, whole.len() / 2] {
        assert!(told(&whole[..length]).is_some(), "{length}");
    }
    assert!(told(b"PK not a tar at all").is_some());
    assert!(told(&noise(4_096)).is_some());
}

#[test]
fn a_newer_format_names_the_program_that_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let mut manifest = manifest(Vec::new());
    manifest.format = FORMAT + 1;
    manifest.mesh = "9.1.0".into();
    Writer::create(&path, Timestamp::EPOCH)
        .unwrap()
        .finish(&manifest)
        .unwrap();
    let error = Archive::open(&path, |_| {}).err().unwrap();
    assert!(error.to_string().contains("made by mesh 9.1.0"), "{error}");
}
