//! Reading a page of what one connection lacks.

use futures::future::BoxFuture;
use mesh_types::Problem;
use tokio::task::JoinSet;

use crate::hub::{Page, Replay};

pub(super) type Reading = BoxFuture<'static, (Replay, Result<Page, Problem>)>;

/// In a task of its own: while the other end does not read, nobody polls here, and the place among those that read must
/// not stay taken.
pub(super) fn read_on(replay: Replay) -> Reading {
    let mut reading = JoinSet::new();
    reading.spawn(read(replay));
    Box::pin(async move {
        let read = reading.join_next().await.and_then(Result::ok);
        read.expect("a replay ends, and does not panic")
    })
}

async fn read(mut replay: Replay) -> (Replay, Result<Page, Problem>) {
    let page = replay.next().await;
    (replay, page)
}
