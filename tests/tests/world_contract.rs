//! The world in memory does what every implementation of the controller's `Cloud` must.

use larder_tests::contract::ground::InMemory;
use larder_tests::contract::hold;

#[tokio::test]
async fn the_world_keeps_the_contract() {
    let found = hold(InMemory::new, &[]).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}
