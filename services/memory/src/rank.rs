//! Which candidates are the best, and why: fusion of two lists, recency, importance, least scores, variety. Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use mesh_api::memory::{QueryFilters, QueryMode, QueryRequest, Scores, Weights};
use mesh_types::Timestamp;
use uuid::Uuid;

/// Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
/// SIGIR 2009: an item's score is the sum of 1 / (k + its place) over the lists, with k = 60.
const FUSION_K: f64 = 60.0;

/// Beside vectors, a text counts as found by words only when it holds more than this share of the question; from here
/// its place among the words counts more and more, in full when it holds everything. Fusion looks at places, and the
/// first place of a list in which nothing really matches is no merit: a memory that shares one name of five words with
/// the question must not come before the one that answers it in other words.
const SHARE_MIN: f64 = 0.5;

/// What is known of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Match {
    pub(crate) id: Uuid,
    /// Cosine similarity to the question; absent without a vector of its model.
    pub(crate) similarity: Option<f64>,
    /// Whether it is of the list of the nearest; one that was found by words only has no place among them.
    pub(crate) is_near: bool,
    /// How much of the question's words it holds, 0 to 1; absent when the question has none.
    pub(crate) share: Option<f64>,
    /// 0 to 1.
    pub(crate) importance: f64,
    pub(crate) created_at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Candidate<T> {
    pub(crate) item: T,
    pub(crate) of: Match,
}

#[derive(Debug)]
pub(crate) struct Ranked<T> {
    pub(crate) item: T,
    pub(crate) score: f64,
    pub(crate) scores: Scores,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) k: usize,
    /// `Text` as well when the question's vector could not be had.
    pub(crate) mode: QueryMode,
    pub(crate) weights: Weights,
    pub(crate) score_min: Option<f64>,
    pub(crate) similarity_min: Option<f64>,
    pub(crate) mmr: Option<f64>,
    pub(crate) now: Timestamp,
}

impl Aim {
    /// With every default.
    pub(crate) fn new(k: u32, mode: QueryMode, now: Timestamp) -> Self {
        Self {
            k: k as usize,
            mode,
            weights: Weights::default(),
            score_min: None,
            similarity_min: None,
            mmr: None,
            now,
        }
    }

    pub(crate) fn of(request: &QueryRequest, mode: QueryMode, now: Timestamp) -> Self {
        let QueryFilters {
            score_min,
            similarity_min,
            ..
        } = request.filters;
        Self {
            weights: request.weights.clone(),
            score_min,
            similarity_min,
            mmr: request.mmr,
            ..Self::new(request.k, mode, now)
        }
    }
}

/// Vectors of length 1 by candidate, where there is one.
pub(crate) type Embeddings = HashMap<Uuid, Vec<f32>>;

/// The best first; of equals the newer one, then the one of the higher id. `embeddings` are looked at for variety only.
pub(crate) fn best<T>(candidates: Vec<Candidate<T>>, aim: &Aim, embeddings: &Embeddings) -> Vec<Ranked<T>> {
    let places = Places::of(&candidates);
    let mut scored: Vec<(Candidate<T>, f64, Scores)> = candidates
        .into_iter()
        .map(|candidate| {
            let scores = explain(&candidate.of, &places, aim);
            let score = score(&candidate.of, &scores, aim);
            (candidate, score, scores)
        })
        .filter(|(candidate, score, _)| {
            let is_similar = match (candidate.of.similarity, aim.similarity_min) {
                (Some(similarity), Some(least)) => similarity >= least,
                _ => true,
            };
            is_similar && aim.score_min.is_none_or(|least| *score >= least)
        })
        .collect();
    scored.sort_by(|(a, a_score, _), (b, b_score, _)| order(*a_score, &a.of, *b_score, &b.of));
    if let Some(relevance) = aim.mmr {
        scored = varied(scored, relevance, aim.k, embeddings);
    }
    scored.truncate(aim.k);
    scored
        .into_iter()
        .map(|(candidate, score, scores)| Ranked {
            item: candidate.item,
            score,
            scores,
        })
        .collect()
}

fn order(a_score: f64, a: &Match, b_score: f64, b: &Match) -> Ordering {
    b_score
        .total_cmp(&a_score)
        .then_with(|| b.created_at.cmp(&a.created_at))
        .then_with(|| b.id.cmp(&a.id))
}

/// Places in the two lists, from 1.
struct Places {
    near: HashMap<Uuid, u32>,
    words: HashMap<Uuid, u32>,
}

impl Places {
    fn of<T>(candidates: &[Candidate<T>]) -> Self {
        let list = |value: &dyn Fn(&Match) -> Option<f64>| {
            let all = candidates.iter().map(|candidate| &candidate.of);
            let mut list: Vec<(f64, &Match)> = all.filter_map(|of| Some((value(of)?, of))).collect();
            list.sort_by(|(a_value, a), (b_value, b)| order(*a_value, a, *b_value, b));
            (1..).zip(list).map(|(place, (_, of))| (of.id, place)).collect()
        };
        Self {
            near: list(&|of| of.similarity.filter(|_| of.is_near)),
            words: list(&|of| of.share.filter(|share| *share > 0.0)),
        }
    }
}

fn explain(of: &Match, places: &Places, aim: &Aim) -> Scores {
    let weights = &aim.weights;
    let vector_rank = places.near.get(&of.id).copied();
    let text_rank = places.words.get(&of.id).copied();
    Scores {
        vector: of.similarity,
        text: of.share,
        vector_rank,
        text_rank,
        fusion: (aim.mode == QueryMode::Hybrid).then(|| fusion(of, vector_rank, text_rank, weights)),
        recency: (weights.recency > 0.0).then(|| recency(of.created_at, aim)),
        importance: (weights.importance > 0.0).then_some(of.importance),
        mmr: None,
    }
}

/// Weighted fusion of the two places, 1 for the first by both. What has no vector yet is judged by its words alone, and
/// a question without words by vectors alone.
fn fusion(of: &Match, vector_rank: Option<u32>, text_rank: Option<u32>, weights: &Weights) -> f64 {
    let part = |rank: Option<u32>| rank.map_or(0.0, |rank| (FUSION_K + 1.0) / (FUSION_K + f64::from(rank)));
    let share = of.share.unwrap_or(0.0);
    if of.similarity.is_none() {
        return weighted_mean([(weights.text, part(text_rank) * share)]);
    }
    if of.share.is_none() {
        return weighted_mean([(weights.vector, part(vector_rank))]);
    }
    let strength = ((share - SHARE_MIN) / (1.0 - SHARE_MIN)).clamp(0.0, 1.0);
    weighted_mean([
        (weights.vector, part(vector_rank)),
        (weights.text, part(text_rank) * strength),
    ])
}

/// 1 for now, a half at the half-life.
fn recency(created_at: Timestamp, aim: &Aim) -> f64 {
    let hours = aim.now.since(created_at).as_secs_f64() / 3_600.0;
    (0.5_f64).powf(hours / aim.weights.half_life_hours)
}

/// The weighted mean of relevance, recency and importance.
fn score(of: &Match, scores: &Scores, aim: &Aim) -> f64 {
    let weights = &aim.weights;
    let vector = of.similarity.unwrap_or(0.0).clamp(0.0, 1.0);
    let relevance = match aim.mode {
        QueryMode::Hybrid => (weights.vector + weights.text, scores.fusion.unwrap_or(0.0)),
        QueryMode::Vector => (weights.vector, vector),
        QueryMode::Text => (weights.text, of.share.unwrap_or(0.0)),
    };
    weighted_mean([
        relevance,
        (weights.recency, scores.recency.unwrap_or(0.0)),
        (weights.importance, scores.importance.unwrap_or(0.0)),
    ])
}

/// 0 when nothing weighs anything.
fn weighted_mean<const N: usize>(parts: [(f64, f64); N]) -> f64 {
    let all: f64 = parts.iter().map(|(weight, _)| weight).sum();
    if all <= 0.0 {
        return 0.0;
    }
    parts.iter().map(|(weight, value)| weight * value).sum::<f64>() / all
}

/// Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries",
/// SIGIR 1998: takes, again and again, what has the highest λ · relevance − (1 − λ) · (greatest similarity to what was
/// taken). What has no vector resembles nothing.
fn varied<T>(
    mut left: Vec<(Candidate<T>, f64, Scores)>,
    relevance: f64,
    k: usize,
    embeddings: &Embeddings,
) -> Vec<(Candidate<T>, f64, Scores)> {
    let mut taken: Vec<(Candidate<T>, f64, Scores)> = Vec::with_capacity(k.min(left.len()));
    // Greatest similarity of each that is left to what was taken, kept beside it.
    let mut alike = vec![0.0_f64; left.len()];
    while taken.len() < k && !left.is_empty() {
        let value = |at: usize| relevance * left[at].1 - (1.0 - relevance) * alike[at];
        let best = (0..left.len())
            // The first of equals: they are in their order.
            .reduce(|best, at| if value(at) > value(best) { at } else { best })
            .unwrap_or(0);
        let marginal = value(best);
        let (candidate, score, mut scores) = left.remove(best);
        alike.remove(best);
        scores.mmr = Some(marginal);
        if let Some(vector) = embeddings.get(&candidate.of.id) {
            for (other, alike) in left.iter().zip(&mut alike) {
                if let Some(other) = embeddings.get(&other.0.of.id) {
                    *alike = alike.max(product(vector, other));
                }
            }
        }
        taken.push((candidate, score, scores));
    }
    taken
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests;
