//! The fleet as its users see it: `mesh node` processes that were given an address and a join token, and a mesh that
//! demands credentials. A replica counts once it has answered an invocation.

mod failover;
mod flapping;
mod ground;
mod life;
mod nodes;
mod partition;
mod proxy;
mod strangers;

/// On one mesh at the same time, since each of them takes its minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_5_30_and_90_s_lose_nothing_and_two_minutes_of_flapping_move_a_replica_three_times_at_most() {
    let ground = ground::Ground::up().await;
    tokio::join!(
        partition::of_so_many_seconds_loses_nothing(&ground, 5),
        partition::of_so_many_seconds_loses_nothing(&ground, 30),
        partition::of_so_many_seconds_loses_nothing(&ground, 90),
        flapping::moves_a_replica_at_most_three_times(&ground),
    );
}
