//! Who may write: only the owner of this epoch, each batch once, each poison alone.

use mesh_types::Code;
use serde_json::json;

use super::harness::{Harness, completed, database, done, meta};
use crate::lane::command::{Accepted, AppendAnswer};
use crate::store::rows::Rows;
use crate::store::shards;
use crate::store::write::{Fence, write};

#[tokio::test]
async fn an_invocation_goes_through_and_ends_once() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let invocation = owner.open(meta(1, 3)).await;
    assert_eq!(
        (invocation.attempt, invocation.cursor),
        (1, 2),
        "accepted and claimed in one batch"
    );
    assert_eq!(owner.started.lock().unwrap().len(), 1, "its worker, once");
    owner.assert_memory_is_committed_state(3).await;
    let first = owner.append(invocation.id, 1, 2, vec![done(1, json!(1))]).await;
    owner.turn().await;
    assert_eq!(first.await.unwrap().map(|done| done.seq), Ok(3));
    owner.assert_memory_is_committed_state(3).await;
    let again = owner.append(invocation.id, 1, 2, vec![done(1, json!(1))]).await;
    let other = owner.append(invocation.id, 1, 2, vec![done(1, json!(2))]).await;
    owner.turn().await;
    assert_eq!(
        again.await.unwrap().map(|done| done.seq),
        Ok(3),
        "the same bytes again are fine"
    );
    let Err(AppendAnswer::Conflict(committed)) = other.await.unwrap() else {
        panic!("other bytes for a done step are a conflict")
    };
    assert_eq!(committed.len(), 3, "the worker goes on from the record");
    let end = owner.append(invocation.id, 1, 3, vec![completed()]).await;
    owner.turn().await;
    assert_eq!(end.await.unwrap().map(|done| done.seq), Ok(4));
    owner.assert_memory_is_committed_state(3).await;
    let late = owner.append(invocation.id, 1, 4, vec![completed()]).await;
    owner.turn().await;
    assert_eq!(late.await.unwrap(), Err(AppendAnswer::Stale));
    assert_eq!(owner.count("SELECT count(*) FROM execution.ended").await, 1);
    assert_eq!(owner.count("SELECT count(*) FROM execution.open").await, 0);
    assert_eq!(
        owner
            .count("SELECT sum(length(entries) / 20)::bigint FROM execution.feed")
            .await,
        4
    );
}

#[tokio::test]
async fn a_stale_owner_writes_nothing_after_a_takeover() {
    let database = database().await;
    let mut old = Harness::new(database.url(), "old", &[1, 2]).await;
    let kept = old.open(meta(1, 1)).await;
    let taken = old.open(meta(2, 2)).await;
    let mut new = Harness::new(database.url(), "new", &[2]).await;
    let before = old.records().await;

    let kept_append = old.append(kept.id, 1, 2, vec![done(1, json!("kept"))]).await;
    let taken_append = old.append(taken.id, 1, 2, vec![done(1, json!("lost"))]).await;
    old.turn().await;

    assert_eq!(
        kept_append.await.unwrap().map(|done| done.seq),
        Ok(3),
        "a lost shard fails only itself"
    );
    assert_eq!(taken_append.await.unwrap(), Err(AppendAnswer::Stale));
    assert_eq!(old.records().await, before + 1);
    assert_eq!(*old.lost.lock().unwrap(), [2]);
    old.assert_memory_is_committed_state(1).await;
    // The new owner claims it again under the next epoch; the old worker's epoch is refused there, too.
    new.turn().await;
    let stale = new.append(taken.id, 1, 2, vec![done(1, json!("old"))]).await;
    let fresh = new.append(taken.id, 2, 3, vec![done(1, json!("new"))]).await;
    new.turn().await;
    assert_eq!(stale.await.unwrap(), Err(AppendAnswer::Stale));
    new.turn().await;
    assert_eq!(fresh.await.unwrap().map(|done| done.seq), Ok(4));
    new.assert_memory_is_committed_state(2).await;
}

/// Whether somebody waits for a lock; only an administrator sees that of all roles.
async fn waiting(admin: &sqlx::PgPool) -> bool {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    sqlx::query_scalar::<_, i64>(waiting).fetch_one(admin).await.unwrap() > 0
}

/// The takeover's UPDATE waits for the lock of a batch in flight; when it gets it, the row has changed: it misses.
#[tokio::test]
async fn a_takeover_that_waited_for_a_batch_misses() {
    let database = database().await;
    let owner = Harness::new(database.url(), "one", &[5]).await;
    let admin = database.pool().await;
    let seen = shards::some(&owner.pool, &[5]).await.unwrap().remove(0);
    let mut batch = owner.pool.begin().await.unwrap();
    let fence = Fence {
        shard: 5,
        epoch: seen.epoch,
        batch: seen.batch,
        relayed: 0,
        feed: vec![],
    };
    let now = mesh_types::Timestamp::EPOCH.to_chrono();
    assert_eq!(
        write(&mut batch, std::slice::from_ref(&fence), &Rows::default(), now)
            .await
            .unwrap(),
        [5]
    );
    let pool = owner.pool.clone();
    let row = seen.clone();
    let takeover = tokio::spawn(async move { shards::take(&pool, &row, "two").await.unwrap() });
    mesh_testkit::wait_until(std::time::Duration::from_secs(10), || async { waiting(&admin).await }).await;
    batch.commit().await.unwrap();
    assert_eq!(takeover.await.unwrap(), None);
    // And the reverse: a batch that waited for a takeover finds another epoch.
    let seen = shards::some(&owner.pool, &[5]).await.unwrap().remove(0);
    let mut takeover = owner.pool.begin().await.unwrap();
    assert!(shards::take(&mut *takeover, &seen, "two").await.unwrap().is_some());
    let pool = owner.pool.clone();
    let fence = Fence {
        batch: seen.batch,
        ..fence
    };
    let batch = tokio::spawn(async move {
        let mut connection = pool.acquire().await.unwrap();
        write(&mut connection, &[fence], &Rows::default(), now).await.unwrap()
    });
    mesh_testkit::wait_until(std::time::Duration::from_secs(10), || async { waiting(&admin).await }).await;
    takeover.commit().await.unwrap();
    assert!(
        batch.await.unwrap().is_empty(),
        "nothing is written under the old epoch"
    );
}

#[tokio::test]
async fn the_same_batch_twice_writes_once() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[0]).await;
    let _answered = owner.accept(meta(1, 0)).await;
    let planned = owner.lane.plan().await;
    let mut rows = Rows::default();
    for planned in &planned {
        rows.push(&planned.decision);
    }
    let row = shards::some(&owner.pool, &[0]).await.unwrap().remove(0);
    let fence = [Fence {
        shard: 0,
        epoch: row.epoch,
        batch: row.batch,
        relayed: 0,
        feed: vec![],
    }];
    let mut connection = owner.pool.acquire().await.unwrap();
    let now = mesh_types::Timestamp::EPOCH.to_chrono();
    assert_eq!(write(&mut connection, &fence, &rows, now).await.unwrap(), [0]);
    assert!(write(&mut connection, &fence, &rows, now).await.unwrap().is_empty());
    assert_eq!(owner.records().await, 2);
    assert_eq!(owner.count("SELECT count(*) FROM execution.invocation").await, 1);
}

#[tokio::test]
async fn a_poison_record_is_refused_alone() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[0, 1]).await;
    let mut answers = vec![];
    for n in 0..20_u128 {
        let mut meta = meta(n, u16::try_from(n % 2).unwrap());
        if n == 7 || n == 13 {
            meta.entrypoint = "a\0b".into();
        }
        // Harmless in bytes, and kept.
        meta.input.payload = json!({"text": "nul \0 in a body"}).into();
        answers.push(owner.accept(meta).await);
    }
    owner.turn().await;
    for (n, answered) in answers.into_iter().enumerate() {
        match answered.await.unwrap() {
            Ok(Accepted::New(_)) => assert!(n != 7 && n != 13),
            Err(problem) => {
                assert!(n == 7 || n == 13, "{n}: {problem}");
                assert!(problem.is(Code::RecordRefused), "{problem}");
            }
            Ok(Accepted::Known(id)) => panic!("{id}"),
        }
    }
    assert_eq!(owner.count("SELECT count(*) FROM execution.invocation").await, 18);
    owner.assert_memory_is_committed_state(0).await;
    owner.assert_memory_is_committed_state(1).await;
}

#[tokio::test]
async fn one_key_is_one_invocation_also_sixteen_at_once() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[0]).await;
    let mut answers = vec![];
    for n in 0..16 {
        let mut meta = meta(n, 0);
        meta.key = Some("order-1".into());
        answers.push(owner.accept(meta).await);
    }
    while !owner.lane.accepts.is_empty() {
        owner.turn().await;
    }
    let mut ids = vec![];
    for answered in answers {
        ids.push(match answered.await.unwrap().unwrap() {
            Accepted::New(invocation) => invocation.id,
            Accepted::Known(id) => id,
        });
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mut other = meta(99, 0);
    other.key = Some("order-1".into());
    other.request_hash = [8; 32];
    let answered = owner.accept(other).await;
    owner.turn().await;
    assert!(answered.await.unwrap().unwrap_err().is(Code::KeyReused));
    assert_eq!(owner.count("SELECT count(*) FROM execution.invocation").await, 1);
}

#[tokio::test]
async fn a_large_body_lies_in_parts_and_comes_back_whole() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[0]).await;
    let invocation = owner.open(meta(1, 0)).await;
    let large = json!({"text": "ї".repeat(600_000)});
    let appended = owner.append(invocation.id, 1, 2, vec![done(1, large.clone())]).await;
    owner.turn().await;
    assert_eq!(appended.await.unwrap().map(|done| done.seq), Ok(3));
    assert!(owner.count("SELECT count(*) FROM execution.body").await >= 2);
    let mut connection = owner.pool.acquire().await.unwrap();
    let journal = crate::store::load::journal(&mut connection, invocation.id, 2, 10)
        .await
        .unwrap();
    assert_eq!(journal[0].fact, done(1, large));
}
