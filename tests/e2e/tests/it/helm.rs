//! The Helm chart, by the real `helm` and Kubernetes' own schemas.

use crate::protocols::clients::Script;

#[tokio::test]
async fn the_chart_renders_sound_objects_for_every_installation() {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../helm/agent-mesh");
    Script::python("helm_chart")
        .set("MESH_TEST_CHART", chart)
        .passes(5)
        .await;
}
