//! What must hold for every list of candidates.

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;

fn candidate(id: u128, similarity: Option<f64>, share: Option<f64>) -> Candidate<u128> {
    let of = Match {
        id: Uuid::from_u128(id),
        similarity,
        is_near: similarity.is_some(),
        share,
        importance: 0.5,
        created_at: Timestamp::from_millis(NOW - HOUR_MS),
    };
    Candidate { item: id, of }
}

fn aim(mode: QueryMode) -> Aim {
    Aim::new(10, mode, Timestamp::from_millis(NOW))
}

fn ids(ranked: &[Ranked<u128>]) -> Vec<u128> {
    ranked.iter().map(|one| one.item).collect()
}

fn ranked(candidates: Vec<Candidate<u128>>, aim: &Aim) -> Vec<Ranked<u128>> {
    best(candidates, aim, &Embeddings::new())
}

#[test]
fn the_first_by_both_scores_one_and_says_why() {
    let all = vec![
        candidate(1, Some(0.9), Some(1.0)),
        candidate(2, Some(0.8), Some(0.0)),
        candidate(3, Some(0.1), Some(0.6)),
    ];
    let ranked = ranked(all, &aim(QueryMode::Hybrid));
    assert_eq!(ids(&ranked), [1, 3, 2]);
    assert!((ranked[0].score - 1.0).abs() < 1e-12, "{}", ranked[0].score);
    let scores = &ranked[0].scores;
    assert_eq!(
        (scores.vector_rank, scores.text_rank, scores.fusion),
        (Some(1), Some(1), Some(1.0))
    );
    assert_eq!(ranked[2].scores.text_rank, None, "it holds no word");
    assert!((ranked[2].score - 61.0 / 62.0 / 2.0).abs() < 1e-12);
}

#[test]
fn a_weak_match_by_words_does_not_come_before_the_answer_in_other_words() {
    let mut all = vec![candidate(1, Some(0.7), Some(0.0))];
    // Each shares half of the question and is farther by its vector.
    all.extend((2..20).map(|id| candidate(id, Some(0.7 - 0.02 * id as f64), Some(0.5))));
    assert_eq!(ids(&ranked(all, &aim(QueryMode::Hybrid)))[0], 1);
}

#[test]
fn what_has_no_vector_yet_is_judged_by_its_words() {
    let all = vec![
        candidate(1, Some(0.9), Some(0.4)),
        candidate(2, None, Some(1.0)),
        candidate(3, None, Some(0.1)),
    ];
    let ranked = ranked(all, &aim(QueryMode::Hybrid));
    assert_eq!(ids(&ranked), [2, 1, 3]);
    assert_eq!((ranked[0].scores.vector, ranked[0].scores.vector_rank), (None, None));
}

#[test]
fn a_question_without_words_goes_by_vectors_alone() {
    let all = vec![candidate(1, Some(0.9), None), candidate(2, Some(0.2), None)];
    let ranked = ranked(all, &aim(QueryMode::Hybrid));
    assert_eq!((ranked[0].item, ranked[0].score), (1, 1.0));
}

#[test]
fn found_by_words_only_it_has_no_place_among_the_nearest() {
    let mut far = candidate(2, Some(0.1), Some(1.0));
    far.of.is_near = false;
    let ranked = ranked(vec![candidate(1, Some(0.9), Some(0.0)), far], &aim(QueryMode::Hybrid));
    assert_eq!(ids(&ranked), [2, 1], "of equals (a half each) the one of the higher id");
    assert_eq!(
        (ranked[0].scores.vector, ranked[0].scores.vector_rank),
        (Some(0.1), None)
    );
}

#[test]
fn leasts_are_kept() {
    let all = || {
        vec![
            candidate(1, Some(0.9), None),
            candidate(2, Some(0.3), None),
            candidate(3, None, Some(0.1)),
        ]
    };
    let similar = Aim {
        similarity_min: Some(0.5),
        ..aim(QueryMode::Vector)
    };
    assert_eq!(ids(&ranked(all(), &similar)), [1, 3], "3 has no vector to judge by");
    let scored = Aim {
        score_min: Some(0.3),
        ..aim(QueryMode::Vector)
    };
    assert_eq!(ids(&ranked(all(), &scored)), [1, 2]);
}

#[test]
fn recency_halves_at_the_half_life_and_importance_counts() {
    let mut old = candidate(1, Some(0.9), None);
    old.of.created_at = Timestamp::from_millis(NOW - 7 * 24 * HOUR_MS);
    let mut new = candidate(2, Some(0.9), None);
    new.of.created_at = Timestamp::from_millis(NOW);
    new.of.importance = 1.0;
    let mut aim = aim(QueryMode::Vector);
    aim.weights.recency = 1.0;
    aim.weights.importance = 0.5;
    let ranked = ranked(vec![old, new], &aim);
    assert_eq!(ids(&ranked), [2, 1]);
    assert_eq!(
        (ranked[0].scores.recency, ranked[1].scores.recency),
        (Some(1.0), Some(0.5))
    );
    assert_eq!(ranked[0].scores.importance, Some(1.0));
    assert!((ranked[1].score - (0.9 + 0.5 + 0.25) / 2.5).abs() < 1e-12);
}

#[test]
fn variety_takes_what_differs_before_a_near_copy() {
    let all = [
        candidate(1, Some(0.90), None),
        candidate(2, Some(0.89), None),
        candidate(3, Some(0.60), None),
    ];
    let embeddings = Embeddings::from([
        (Uuid::from_u128(1), vec![1.0, 0.0]),
        (Uuid::from_u128(2), vec![1.0, 0.0]),
        (Uuid::from_u128(3), vec![0.0, 1.0]),
    ]);
    let varied = |relevance| {
        let aim = Aim {
            k: 2,
            mmr: Some(relevance),
            ..aim(QueryMode::Vector)
        };
        let all = all.iter().map(|one| candidate(one.item, one.of.similarity, None));
        best(all.collect(), &aim, &embeddings)
    };
    assert_eq!(ids(&varied(1.0)), [1, 2]);
    let chosen = varied(0.5);
    assert_eq!(ids(&chosen), [1, 3]);
    assert!((chosen[1].scores.mmr.unwrap() - 0.3).abs() < 1e-12);
    assert_eq!(ids(&varied(0.0)), [1, 3]);
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate<u128>>> {
    let one = (
        proptest::option::of(-1.0..=1.0_f64),
        any::<bool>(),
        proptest::option::of(0.0..=1.0_f64),
        0.0..=1.0_f64,
        0..1_000_i64,
    );
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        let make = |(id, (similarity, is_near, share, importance, hours)): (u128, (Option<f64>, bool, _, f64, i64))| {
            let mut one = candidate(id, similarity, share);
            one.of.is_near = is_near && similarity.is_some();
            one.of.importance = importance;
            one.of.created_at = Timestamp::from_millis(NOW - hours * HOUR_MS);
            one
        };
        (1..).zip(all).map(make).collect()
    })
}

fn any_aim() -> impl Strategy<Value = Aim> {
    let mode = prop_oneof![Just(QueryMode::Hybrid), Just(QueryMode::Vector), Just(QueryMode::Text)];
    let weight = || 0.0..=1.0_f64;
    (
        mode,
        1..20_usize,
        [weight(), weight(), weight(), weight()],
        proptest::option::of(0.0..=1.0_f64),
    )
        .prop_map(|(mode, k, [vector, text, recency, importance], score_min)| Aim {
            k,
            weights: Weights {
                vector,
                text,
                recency,
                importance,
                ..Weights::default()
            },
            score_min,
            ..aim(mode)
        })
}

fn copies(all: &[Candidate<u128>]) -> Vec<Candidate<u128>> {
    let copy = |one: &Candidate<u128>| Candidate {
        item: one.item,
        of: one.of.clone(),
    };
    all.iter().map(copy).collect()
}

proptest! {
    #[test]
    fn scores_are_shares_in_falling_order_and_at_most_k(all in any_candidates(), aim in any_aim()) {
        let count = all.len();
        let ranked = ranked(all, &aim);
        prop_assert!(ranked.len() <= aim.k.min(count));
        for one in &ranked {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&one.score), "{}", one.score);
            prop_assert!(aim.score_min.is_none_or(|least| one.score >= least));
        }
        prop_assert!(ranked.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    #[test]
    fn the_order_of_the_candidates_changes_nothing(all in any_candidates(), aim in any_aim()) {
        let mut turned = copies(&all);
        turned.reverse();
        prop_assert_eq!(ids(&ranked(all, &aim)), ids(&ranked(turned, &aim)));
    }

    #[test]
    fn a_better_match_never_gets_a_lower_score(all in any_candidates(), aim in any_aim(), at in any::<prop::sample::Index>()) {
        prop_assume!(!all.is_empty());
        let aim = Aim { k: all.len(), score_min: None, ..aim };
        let at = at.index(all.len());
        let mut better = copies(&all);
        let of = &mut better[at].of;
        of.share = of.share.map(|share| (share + 0.2).min(1.0));
        of.similarity = of.similarity.map(|similarity| (similarity + 0.2).min(1.0));
        of.importance = (of.importance + 0.2).min(1.0);
        let id = all[at].item;
        let score = |ranked: Vec<Ranked<u128>>| ranked.into_iter().find(|one| one.item == id).map(|one| one.score);
        let (before, after) = (score(ranked(all, &aim)).unwrap(), score(ranked(better, &aim)).unwrap());
        prop_assert!(after >= before - 1e-12, "{before} {after}");
    }

    #[test]
    fn variety_chooses_among_the_same_and_never_twice(all in any_candidates(), mut aim in any_aim(), relevance in 0.0..=1.0_f64) {
        aim.mmr = Some(relevance);
        let mut chosen = ids(&ranked(all, &aim));
        let count = chosen.len();
        chosen.sort_unstable();
        chosen.dedup();
        prop_assert_eq!(chosen.len(), count);
    }
}
