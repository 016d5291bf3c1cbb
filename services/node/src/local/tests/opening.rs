//! What opens the page and what does not end it.

use super::*;

#[tokio::test]
async fn a_taken_port_is_not_the_end_of_the_node() {
    let world = World::development().await;
    let settings: Arc<dyn Settings> = world.node.clone();
    let models = models(&InferenceConfig::default(), world.folder.path(), world.centre.clone());
    let parts = Parts {
        chat: Arc::new(Chat::new(models.clone(), settings.clone())),
        settings,
        models,
        centre: world.centre.clone(),
        folder: world.folder.path().to_owned(),
    };
    let key = world.local_key();
    assert_eq!(start(world.address, parts, &world.context).await, None);
    assert_eq!(world.local_key(), key, "the other one's key stays");
}

#[tokio::test]
async fn an_api_key_that_the_mesh_refuses_opens_nothing_even_if_the_node_joined_with_it() {
    let revoked = World::start(FakeNode::of_ann(Some("mak_revoked")), InferenceConfig::default()).await;
    assert_eq!(revoked.status_with("mak_revoked").await, 401);
    let good = World::start(FakeNode::of_ann(Some("mak_ann")), InferenceConfig::default()).await;
    assert_eq!(good.status_with("mak_ann").await, 200);
}
