//! The rendered permissions, and a service that works with them on a real server.

use mesh_bus::permissions;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nats/permissions.json");

#[test]
fn the_rendered_permissions_are_those_in_the_repository() {
    let rendered = permissions::render();
    if std::env::var_os("MESH_UPDATE_GENERATED").is_some() {
        std::fs::write(FILE, &rendered).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        kept == rendered,
        "nats/permissions.json is not what the code says: run this test with MESH_UPDATE_GENERATED=1"
    );
}
