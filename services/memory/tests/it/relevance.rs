//! Finds the local model what is meant? A labelled set (tests/relevance/set.json), asked of the real service by its
//! defaults; recall@5 and the mean reciprocal rank go into the test report and `target/relevance.json`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use mesh_api::memory::{MemoryList, MemoryQuery, MemoryStore, QueryMode, QueryRequest, StoreRequest};
use mesh_types::AgentName;
use serde::{Deserialize, Serialize};

use crate::setup::Mesh;

/// Hits among which the right memory must be.
const K: u32 = 5;
/// Of the English questions, those whose memory must be among the first [`K`] hits.
const RECALL_MIN: f64 = 0.9;
/// Share of English pairs in which no content word of the question stands in the memory.
const UNSHARED_MIN: f64 = 0.4;

#[derive(Deserialize)]
struct Set {
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Topic {
    topic: String,
    language: String,
    pairs: Vec<Pair>,
    /// Memories of the topic that answer no question.
    distractors: Vec<String>,
}

#[derive(Deserialize)]
struct Pair {
    question: String,
    memory: String,
}

impl Set {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relevance/set.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn of<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a Topic> {
        self.topics.iter().filter(move |topic| topic.language == language)
    }

    fn pairs<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a Pair> {
        self.of(language).flat_map(|topic| &topic.pairs)
    }

    /// All that the agent remembers.
    fn memories(&self) -> Vec<&str> {
        let answers = self
            .topics
            .iter()
            .flat_map(|topic| &topic.pairs)
            .map(|pair| pair.memory.as_str());
        let others = self
            .topics
            .iter()
            .flat_map(|topic| &topic.distractors)
            .map(String::as_str);
        answers.chain(others).collect()
    }
}

impl Pair {
    fn shares_no_word(&self) -> bool {
        let (asked, known) = (words(&self.question), words(&self.memory));
        !asked
            .iter()
            .any(|asked| known.iter().any(|known| is_same(asked, known)))
    }
}

/// Content words in lower case: what is left without words that any sentence may have.
fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase();
    let words = lower
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let stop: BTreeSet<&str> = STOP_WORDS.split_whitespace().collect();
    words.filter(|word| !stop.contains(word)).map(stem).collect()
}

/// Without the endings of English inflection: coarser than the stemmer of Postgres, so that fewer pairs count as apart.
fn stem(word: &str) -> String {
    const ENDINGS: [&str; 12] = [
        "ingly", "edly", "ings", "ing", "ied", "ies", "ers", "ed", "es", "er", "ly", "s",
    ];
    let cut = ENDINGS
        .iter()
        .find_map(|ending| word.strip_suffix(ending).filter(|rest| rest.chars().count() >= 3));
    let mut letters: Vec<char> = cut.unwrap_or(word).chars().collect();
    if letters.len() > 3 && letters[letters.len() - 1] == letters[letters.len() - 2] {
        letters.pop();
    }
    if letters.len() > 3 && matches!(letters.last(), Some('e' | 'y')) {
        letters.pop();
    }
    letters.into_iter().collect()
}

/// Also words of one family, such as `vaccine` and `vaccination`, by how they begin.
fn is_same(one: &str, other: &str) -> bool {
    const BEGINNING: usize = 5;
    let begins = |word: &str| word.chars().take(BEGINNING).collect::<String>();
    let is_long = |word: &str| word.chars().count() >= BEGINNING;
    one == other || (is_long(one) && is_long(other) && begins(one) == begins(other))
}

const STOP_WORDS: &str = "a about after again all also an and any are as at back be because been before being below \
    better between both but by can could d did do does doing done down each ever every few for from get gets go goes \
    going got had has have he her here hers him his how i if in into is it its itself let like ll m made make makes \
    many may me mine more most much must mustn my never no nor not now of off on once one only or other our ours out \
    over own per please put puts re s said same say says see shall she should so some somebody someone something \
    still such t take taken takes than that the their them then there these they thing things this those through to \
    too under until up upon us use used ve very want wants was we well were what when where which while who whom \
    whose why will with without would you your yours";

#[test]
fn the_set_is_what_its_label_says() {
    let set = Set::read();
    let english: Vec<&Pair> = set.pairs("en").collect();
    assert!(english.len() >= 120, "{} pairs", english.len());
    assert!(set.pairs("uk").count() >= 30);
    let topics: BTreeSet<&str> = set.of("en").map(|topic| topic.topic.as_str()).collect();
    assert!(topics.len() >= 8, "{topics:?}");
    assert!(set.of("en").map(|topic| topic.distractors.len()).sum::<usize>() >= 200);
    let memories = set.memories();
    let different: BTreeSet<&str> = memories.iter().copied().collect();
    assert_eq!(memories.len(), different.len(), "a memory stands twice");
    let questions: BTreeSet<&str> = english.iter().map(|pair| pair.question.as_str()).collect();
    assert_eq!(english.len(), questions.len(), "a question stands twice");
    let unshared = english.iter().filter(|pair| pair.shares_no_word()).count();
    let share = unshared as f64 / english.len() as f64;
    assert!(
        share >= UNSHARED_MIN,
        "in {unshared} of {} pairs no word is shared",
        english.len()
    );
}

#[test]
fn words_are_told_apart_by_what_they_mean() {
    let pair = |question: &str, memory: &str| Pair {
        question: question.into(),
        memory: memory.into(),
    };
    assert!(
        pair(
            "Is anyone allergic to seafood?",
            "Priya breaks out in hives after prawns."
        )
        .shares_no_word()
    );
    for (question, memory) in [
        ("When does she run?", "She runs at six"),
        ("Who is cleaning?", "Ann cleaned it"),
        ("Was he vaccinated?", "the next vaccination"),
        ("When are the copies made?", "one copy a day"),
    ] {
        assert!(!pair(question, memory).shares_no_word(), "{question} {memory}");
    }
}

/// How well one group of questions was answered.
#[derive(Debug, Default, Serialize)]
struct Score {
    questions: usize,
    recall_at_5: f64,
    /// Mean of 1 / place of the right memory, 0 when it is not among the hits (Voorhees, TREC-8, 1999).
    mean_reciprocal_rank: f64,
    /// Questions whose memory was not among the hits.
    missed: Vec<String>,
}

impl Score {
    /// Of each question the place of its memory, from 1.
    fn of<'a>(places: impl Iterator<Item = &'a (&'a Pair, Option<usize>)>) -> Self {
        let mut score = Self::default();
        for (pair, place) in places {
            score.questions += 1;
            match place {
                Some(place) => {
                    score.recall_at_5 += 1.0;
                    score.mean_reciprocal_rank += 1.0 / *place as f64;
                }
                None => score.missed.push(pair.question.clone()),
            }
        }
        let count = score.questions.max(1) as f64;
        score.recall_at_5 /= count;
        score.mean_reciprocal_rank /= count;
        score
    }
}

#[derive(Debug, Serialize)]
struct Scores {
    english: Score,
    english_without_a_shared_word: Score,
    ukrainian: Score,
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, score) in [
            ("English", &self.english),
            ("without a shared word", &self.english_without_a_shared_word),
            ("Ukrainian", &self.ukrainian),
        ] {
            let Score {
                questions,
                recall_at_5: recall,
                mean_reciprocal_rank: rank,
                ..
            } = score;
            write!(f, "{name} {recall:.3} ({rank:.3}) of {questions}; ")?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// By the defaults: this is what is judged.
    hybrid: Scores,
    /// By the parts alone, to see what each gives.
    vector: Scores,
    text: Scores,
}

fn agent() -> AgentName {
    "sofia".parse().unwrap()
}

/// All memories of the set, stored and embedded.
async fn filled(set: &Set) -> Mesh {
    let mesh = Mesh::start_local().await;
    let put = async |content: &str| {
        let stored = mesh
            .ask::<MemoryStore>(StoreRequest::new(agent(), content))
            .await
            .unwrap();
        assert_eq!(stored.content, content, "none of them is taken for another");
        assert_eq!(stored.seen, 1, "{content}");
    };
    futures::stream::iter(set.memories()).for_each_concurrent(16, put).await;
    let all_embedded = || async {
        let request = serde_json::from_value(serde_json::json!({"limit": 500})).unwrap();
        let page = mesh.ask::<MemoryList>(request).await.unwrap();
        page.items.len() == set.memories().len() && page.items.iter().all(|memory| memory.embedded)
    };
    mesh_testkit::wait_until(Duration::from_secs(120), all_embedded).await;
    mesh
}

/// Where the memory of a question stands among the hits, from 1.
async fn place(mesh: &Mesh, pair: &Pair, mode: QueryMode) -> Option<usize> {
    let mut request = QueryRequest::new(agent(), pair.question.as_str(), K);
    request.mode = mode;
    let reply = mesh.ask::<MemoryQuery>(request).await.unwrap();
    assert_eq!(reply.degraded, None, "{}", pair.question);
    assert!(reply.items.len() <= K as usize);
    let found = reply.items.iter().position(|hit| hit.memory.content == pair.memory);
    found.map(|index| index + 1)
}

async fn scores(mesh: &Mesh, set: &Set, mode: QueryMode) -> Scores {
    let mut english = Vec::new();
    for pair in set.pairs("en") {
        english.push((pair, place(mesh, pair, mode).await));
    }
    let mut ukrainian = Vec::new();
    for pair in set.pairs("uk") {
        ukrainian.push((pair, place(mesh, pair, mode).await));
    }
    Scores {
        english: Score::of(english.iter()),
        english_without_a_shared_word: Score::of(english.iter().filter(|(pair, _)| pair.shares_no_word())),
        ukrainian: Score::of(ukrainian.iter()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_finds_its_memory_by_meaning_with_the_local_model() {
    let set = Set::read();
    let mesh = filled(&set).await;
    let report = Report {
        hybrid: scores(&mesh, &set, QueryMode::Hybrid).await,
        vector: scores(&mesh, &set, QueryMode::Vector).await,
        text: scores(&mesh, &set, QueryMode::Text).await,
    };
    let text = serde_json::to_string_pretty(&report).unwrap();
    println!(
        "recall@{K} (mean reciprocal rank) among {} memories:",
        set.memories().len()
    );
    for (mode, scores) in [
        ("hybrid", &report.hybrid),
        ("vector", &report.vector),
        ("text", &report.text),
    ] {
        println!("{mode:<8}{scores}");
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    std::fs::write(target.join("relevance.json"), text + "\n").unwrap();
    let recall = report.hybrid.english.recall_at_5;
    assert!(
        recall >= RECALL_MIN,
        "recall@5 in English is {recall:.3}: {:?}",
        report.hybrid.english.missed
    );
}
