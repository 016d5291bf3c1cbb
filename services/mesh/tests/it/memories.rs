//! Commands of memories and knowledge: what they ask for, and what a person or a program reads.

use serde_json::{Value, json};

use crate::remembering::{DOCUMENT, ID, RECEIPT, World};
use crate::support::{text, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memories_are_told_found_and_shown() {
    let world = World::start().await;
    let told_one = [
        "memories",
        "remember",
        "sofia",
        "Ann prefers tea",
        "--user",
        "ann",
        "--ttl",
        "12h",
        "--tag",
        "drinks",
    ];
    let (id, remarks) = world.done(&told_one).await;
    assert_eq!(id.trim(), ID);
    assert!(
        remarks.contains("stored 3 times") && remarks.contains("found by its words"),
        "{remarks}"
    );
    let asked = world.last("memory-store");
    assert_eq!(
        (&asked["scope"], &asked["user"], &asked["type"]),
        (&json!("user"), &json!("ann"), &json!("semantic"))
    );
    assert_eq!(
        (&asked["ttl_seconds"], &asked["tags"]),
        (&json!(43_200), &json!(["drinks"]))
    );

    let (list, _) = world
        .done(&["memories", "list", "--agent", "sofia", "--type", "semantic"])
        .await;
    assert!(list.contains(ID) && list.contains("user ann"), "{list}");
    assert_eq!(
        world.last("memory-list"),
        json!({"agent": "sofia", "type": "semantic", "limit": 20})
    );

    let search = ["memories", "search", "sofia", "what does she drink?", "-k", "3"];
    let (table, remarks) = world.done(&search).await;
    assert!(
        table.contains("0.875") && remarks.contains("by words only"),
        "{table}{remarks}"
    );
    let (explained, _) = world
        .done(&[&search[..], &["--explain", "--knowledge", "handbook"]].concat())
        .await;
    for part in [
        "meaning 0.500 (place 1)",
        "words 0.250 (place 4)",
        "fusion 0.960",
        "Leave › How much",
        "Thirty days",
    ] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    assert_eq!(world.last("memory-query")["knowledge"], json!(["handbook"]));
    assert_eq!(world.json(&search).await["items"][0]["scores"]["fusion"], 0.96);

    let (shown, _) = world.done(&["memories", "show", ID, "--history"]).await;
    for part in [
        "user ann",
        "0.80",
        "not yet",
        "version 1",
        "Ann prefers coffee",
        "user:ann",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_an_unknown_memory_is_told_where_to_look() {
    let world = World::start().await;
    let missing = world.run(&["memories", "show", "mem_01BX5ZZKBKACTAV9WEVGEMMVRZ"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing.stderr).contains("next: mesh memories"),
        "{}",
        told(&missing)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_forgotten_unless_it_is_meant() {
    let world = World::start().await;
    let unsure = world.run(&["memories", "forget", "--user", "ann"]).await;
    assert_eq!(unsure.status.code(), Some(2), "{}", told(&unsure));
    assert_eq!(world.count("memory-erase"), 0, "nobody was asked");
    let (counted, _) = world.done(&["memories", "forget", "--user", "ann", "--dry-run"]).await;
    assert!(
        counted.contains("2 memories (1 of them made of others) would be erased"),
        "{counted}"
    );
    assert_eq!(world.last("memory-erase")["dry_run"], true);
    let (receipt, _) = world.done(&["memories", "forget", ID, "--keep-derived", "--yes"]).await;
    assert!(
        receipt.contains(RECEIPT) && receipt.contains(&"ab".repeat(32)),
        "{receipt}"
    );
    let asked = world.last("memory-erase");
    assert_eq!(
        (&asked["filter"], &asked["keep_derived"]),
        (&json!({"ids": [ID]}), &json!(true))
    );
    assert_eq!(asked["dry_run"], Value::Null);
    let nothing = world.json(&["memories", "forget", "--user", "nobody", "--yes"]).await;
    assert_eq!(nothing["forgotten"], 0);
    let unknown = world
        .run(&["memories", "forget", ID, "--user", "nobody", "--yes"])
        .await;
    assert_eq!(unknown.status.code(), Some(1), "{}", told(&unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedding_and_the_condensing_are_shown() {
    let world = World::start().await;
    let (status, _) = world.done(&["memories", "status"]).await;
    for part in [
        "minilm, 384 dimensions",
        "ready, loaded",
        "33 %, 60 wait",
        "███████░",
        "older",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let (started, remarks) = world.done(&["memories", "consolidate", "sofia"]).await;
    assert!(
        started.contains("condenses 7 memories") && remarks.contains("mesh steps inv_"),
        "{started}{remarks}"
    );
    let (too_few, _) = world
        .done(&["memories", "consolidate", "sofia", "--at-least", "10"])
        .await;
    assert!(too_few.contains("at least 10"), "{too_few}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_added_listed_cited_and_deleted() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leave.md");
    std::fs::write(&file, "# Відпустка").unwrap();
    let file = file.display().to_string();
    let (added, _) = world
        .done(&["knowledge", "add", "handbook", &file, "https://example.com/guide.html"])
        .await;
    let lines: Vec<&str> = added.lines().collect();
    assert_eq!(lines.len(), 2, "{added}");
    assert!(
        lines[0].contains("version 2, 4 pieces, 3 of them kept, ready"),
        "{added}"
    );
    assert!(world.count("knowledge-get") >= 2, "each was waited for");
    let url = world.last("knowledge-add");
    assert_eq!(
        url,
        json!({"base": "handbook", "url": "https://example.com/guide.html"})
    );
    let gets = world.count("knowledge-get");
    let document = world
        .json(&["knowledge", "add", "handbook", &file, "--no-wait", "--name", "a b"])
        .await;
    assert_eq!(document["items"][0]["state"], "embedding");
    assert_eq!(world.count("knowledge-get"), gets, "nobody waited");
    let asked = world.last("knowledge-add");
    assert_eq!(
        (&asked["name"], &asked["media_type"]),
        (&json!("a b"), &json!("text/markdown"))
    );
    assert_eq!(asked["data"], "IyDQktGW0LTQv9GD0YHRgtC60LA=");
    let absent = world.run(&["knowledge", "add", "handbook", "absent.md"]).await;
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("absent.md"), "{}", told(&absent));

    let (list, _) = world.done(&["knowledge", "list", "handbook"]).await;
    assert!(list.contains("leave.md") && list.contains("embedding, 25 %"), "{list}");
    let (shown, _) = world.done(&["knowledge", "show", DOCUMENT]).await;
    assert!(shown.contains("4, 4 of them embedded, 3 kept"), "{shown}");
    let (plain, _) = world.done(&["knowledge", "show", DOCUMENT, "--text"]).await;
    assert_eq!(plain, "# Leave\n  Thirty days.\n");
    let (found, _) = world
        .done(&["knowledge", "search", "handbook", "policies", "how much leave?"])
        .await;
    for part in [
        "handbook/leave.md › Leave › How much",
        "Thirty days",
        "version 2, characters 10 to 52",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert_eq!(world.last("knowledge-search")["bases"], json!(["handbook", "policies"]));
    let (deleted, _) = world.done(&["knowledge", "delete", DOCUMENT]).await;
    assert!(deleted.contains("with 4 pieces"), "{deleted}");
}
