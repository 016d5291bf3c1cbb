//! The feed of everything: what JOURNAL says by (batch, ordinal) is what the tables say, whole and of each tenant.

use std::collections::BTreeMap;

use futures::FutureExt;
use mesh_api::Caller;
use mesh_api::live::{FeedNote, SHARDS, ShardFeed, ShardFeedPage, ShardFeedRequest, ShardMark};
use mesh_bus::Message;
use mesh_types::subject::Filter;
use mesh_types::{Code, Tenant};
use serde_json::{Value, json};

use crate::mesh::{Mesh, SOON, request};

/// Place of a record: shard, batch, ordinal.
type Place = (u16, u64, u32);

async fn read(mesh: &Mesh, request: &ShardFeedRequest) -> ShardFeedPage {
    let caller = Caller::service("test", Tenant::default());
    mesh.bus.call::<ShardFeed>(&caller, request).await.unwrap()
}

/// All of the feed, page by page.
async fn all(mesh: &Mesh, tenant: Option<&str>) -> BTreeMap<Place, FeedNote> {
    let mut after: Vec<ShardMark> = (0..SHARDS).map(|shard| ShardMark { shard, after: 0 }).collect();
    let mut notes = BTreeMap::new();
    while !after.is_empty() {
        let request = ShardFeedRequest {
            after: after.clone(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
        };
        let page = read(mesh, &request).await;
        for (mark, page) in after.iter_mut().zip(&page.pages) {
            assert_eq!(mark.shard, page.shard);
            mark.after = page.to;
            for note in &page.notes {
                notes.insert((page.shard, note.batch, note.ordinal), note.clone());
            }
        }
        after.retain(|mark| page.heads[usize::from(mark.shard)].batch > mark.after);
    }
    notes
}

/// What messages of JOURNAL place where: seq and kind of each record. Checks that passes are whole.
fn placed(messages: &[Message]) -> BTreeMap<Place, (String, u64, String)> {
    let mut placed = BTreeMap::new();
    let mut next: BTreeMap<u16, (u64, String)> = BTreeMap::new();
    for message in messages {
        let header = |name| message.headers.get(name);
        let Some(part) = header("Mesh-Part") else { continue };
        let number = |name| header(name).unwrap().parse::<u64>().unwrap();
        let (from, to) = (number("Mesh-From-Batch"), number("Mesh-To-Batch"));
        let shard = u16::try_from(number("Mesh-Shard")).unwrap();
        // Messages of a shard come pass after pass, each from where the last ended.
        let (part_number, of) = part.split_once('/').unwrap();
        match next.get(&shard) {
            Some((end, expected)) if part_number != "1" => assert_eq!((to, part_number), (*end, expected.as_str())),
            Some((end, _)) => assert_eq!(from, end + 1, "nothing lies between two passes"),
            None => assert_eq!((from, part_number), (1, "1")),
        }
        assert!(part_number.parse::<u32>().unwrap() <= of.parse().unwrap());
        next.insert(shard, (to, (part_number.parse::<u32>().unwrap() + 1).to_string()));
        let page: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(page["agent"], "talker");
        for (place, record) in page["places"]
            .as_array()
            .unwrap()
            .iter()
            .zip(page["records"].as_array().unwrap())
        {
            let (batch, ordinal) = (place[0].as_u64().unwrap(), place[1].as_u64().unwrap());
            assert!((from..=to).contains(&batch));
            let said = (
                page["invocation"].as_str().unwrap().to_owned(),
                record["seq"].as_u64().unwrap(),
                record["record"].as_str().unwrap().to_owned(),
            );
            let before = placed.insert((shard, batch, u32::try_from(ordinal).unwrap()), said);
            assert_eq!(before, None, "a place is one record's");
        }
    }
    placed
}

/// How many records a page has, of all shards from their beginning.
async fn first_page(mesh: &Mesh) -> usize {
    let request = ShardFeedRequest {
        after: (0..SHARDS).map(|shard| ShardMark { shard, after: 0 }).collect(),
        tenant: None,
    };
    let page = read(mesh, &request).await;
    page.pages.iter().map(|page| page.notes.len()).sum()
}

#[tokio::test]
async fn what_is_pruned_while_a_page_is_read_stands_in_it() {
    let (mesh, _process) = Mesh::start().await;
    for number in 0..3 {
        let body = request(json!({"payload": {"text": format!("order {number}")}}));
        mesh.accept("talker", body, SOON).await.unwrap();
    }
    mesh.check().await;
    let whole = first_page(&mesh).await;
    assert!(whole >= 9, "{whole}");
    // Holds the read up after it has seen which batches there are, before it reads what is in them.
    let mut prune = mesh.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE execution.record IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *prune)
        .await
        .unwrap();
    let waits = async {
        mesh_testkit::wait_until(SOON, || async {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'execution.record'::regclass",
            )
            .fetch_one(&mesh.pool)
            .await
            .unwrap();
            waiting > 0
        })
        .await;
        for table in ["record", "feed"] {
            let delete = format!("DELETE FROM execution.{table}");
            sqlx::query(sqlx::AssertSqlSafe(delete))
                .execute(&mut *prune)
                .await
                .unwrap();
        }
        prune.commit().await.unwrap();
    };
    let (read, ()) = tokio::join!(first_page(&mesh), waits);
    assert_eq!(read, whole, "all of what the page says that it holds");
    assert_eq!(first_page(&mesh).await, 0);
}

#[tokio::test]
async fn the_journal_and_the_feed_place_every_record_alike() {
    let (mesh, _process) = Mesh::start().await;
    let mut journal = mesh.bus.subscribe(&Filter::JournalAll).await.unwrap();
    let body = |n: u32| request(json!({"payload": {"text": format!("order {n}")}, "session": format!("s{}", n % 5)}));
    let accepted = (0..20).map(|n| mesh.accept("talker", body(n), SOON));
    for ended in futures::future::join_all(accepted).await {
        ended.unwrap();
    }
    mesh.check().await;
    // All is relayed, so the server has sent it here before it answers this.
    mesh.bus.flush().await.unwrap();
    let mut messages = Vec::new();
    while let Some(Some(message)) = journal.next().now_or_never() {
        messages.push(message);
    }
    let placed = placed(&messages);
    let feed = all(&mesh, None).await;
    let shown = |kind: &str| !["begun", "done", "cancel_requested"].contains(&kind);
    let expected: Vec<_> = placed.iter().filter(|(_, (_, _, kind))| shown(kind)).collect();
    assert_eq!(expected.len(), feed.len());
    assert!(feed.len() >= 60, "accepted, claimed and ended, each: {}", feed.len());
    for ((place, (invocation, seq, _)), (feed_place, note)) in expected.into_iter().zip(&feed) {
        assert_eq!(place, feed_place);
        assert_eq!(
            (invocation, *seq),
            (&note.invocation.to_string(), u64::from(note.record.seq))
        );
        let record = serde_json::to_value(&note.record).unwrap();
        assert!(
            record["output"].is_null(),
            "what lists do not show stays away: {record}"
        );
    }
    assert_eq!(all(&mesh, Some("default")).await, feed);
    assert!(all(&mesh, Some("other")).await.is_empty());

    let heads = read(&mesh, &ShardFeedRequest::default()).await;
    assert_eq!((heads.heads.len(), heads.pages.len()), (usize::from(SHARDS), 0));
    assert_eq!(heads.feed_id, mesh.status().await.feed_id);
    let wrong = ShardFeedRequest {
        after: vec![ShardMark {
            shard: SHARDS,
            after: 0,
        }],
        tenant: None,
    };
    let caller = Caller::service("test", Tenant::default());
    let problem = mesh.bus.call::<ShardFeed>(&caller, &wrong).await.unwrap_err();
    assert!(problem.is(Code::InvalidRequest), "{problem}");
}
