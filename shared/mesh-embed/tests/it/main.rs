//! The real weights against vectors of the reference implementation (tests/golden.json says how they were made).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use mesh_embed::{ModelError, SentenceModel, Settings};
use mesh_servers::{EmbedderWeights, Quiet};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    text: String,
    tokens: usize,
    vector: Vec<f32>,
}

fn golden() -> Vec<Item> {
    serde_json::from_str::<Golden>(include_str!("../golden.json"))
        .unwrap()
        .items
}

fn weights() -> PathBuf {
    EmbedderWeights::resolve(&mut Quiet).unwrap().folder
}

fn model() -> &'static SentenceModel {
    static MODEL: OnceLock<SentenceModel> = OnceLock::new();
    MODEL.get_or_init(|| SentenceModel::load(&weights()).unwrap())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_agree_with_the_reference_in_every_language_and_length() {
    let items = golden();
    assert!(items.len() >= 30);
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let vectors = model().embed(&texts).unwrap();
    let mut worst = 1.0_f64;
    for (item, vector) in items.iter().zip(&vectors) {
        assert_eq!(vector.len(), 384);
        let cosine = cosine(vector, &item.vector);
        assert!(cosine >= 0.999, "{cosine} for {:?}", item.text);
        worst = worst.min(cosine);
    }
    println!("{} texts, least cosine {worst:.7}", items.len());
}

#[test]
fn texts_are_cut_as_the_reference_cuts_them() {
    for item in golden() {
        assert_eq!(
            model().count_tokens(&item.text).unwrap(),
            item.tokens,
            "{:?}",
            item.text
        );
    }
}

#[test]
fn a_vector_does_not_depend_on_what_it_is_batched_with() {
    let items = golden();
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let together = model().embed(&texts).unwrap();
    for (text, in_batch) in texts.iter().zip(&together) {
        let alone = model().embed(&[text]).unwrap().remove(0);
        let furthest = alone
            .iter()
            .zip(in_batch)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(furthest < 1e-5, "{furthest} for {text:?}");
        let length: f32 = alone.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    assert!(model().embed::<&str>(&[]).unwrap().is_empty());
}

#[test]
fn what_comes_after_the_last_word_piece_is_not_looked_at() {
    let long = "word ".repeat(10_000);
    let cut = format!("{long} something else entirely");
    let vectors = model().embed(&[long, cut]).unwrap();
    assert_eq!(vectors[0], vectors[1]);
    assert_eq!(model().settings().tokens_max, 256);
}

#[test]
fn meaning_is_near_and_noise_is_far() {
    let texts = [
        "Which tea does Anna like?",
        "Anna prefers jasmine tea.",
        "The invoice is overdue.",
    ];
    let vectors = model().embed(&texts).unwrap();
    let (near, far) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    assert!(near > 0.7 && far < 0.2, "{near} {far}");
}

#[test]
fn a_folder_of_another_model_is_refused_with_the_reason() {
    let real = weights();
    let folder = tempfile::tempdir().unwrap();
    let missing = SentenceModel::load(folder.path()).unwrap_err();
    assert!(matches!(missing, ModelError::Read { .. }), "{missing}");
    let config = fs::read_to_string(real.join("config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from));
        fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
        Settings::read(folder.path()).unwrap_err().to_string()
    };
    assert!(with("\"bert\"", "\"gpt2\"").contains("gpt2"));
    assert!(with("\"gelu\"", "\"relu\"").contains("relu"));
    assert!(with("\"num_attention_heads\": 12", "\"num_attention_heads\": 7").contains("7 heads"));
    // Its weights are not of the size that its settings say.
    fs::write(folder.path().join("config.json"), config.replace("1536", "1024")).unwrap();
    for name in ["tokenizer.json", "model.safetensors"] {
        fs::copy(real.join(name), folder.path().join(name)).unwrap();
    }
    let error = SentenceModel::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("intermediate.dense"), "{error}");
}
