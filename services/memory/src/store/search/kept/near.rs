//! The nearest of a set, by the cosine distance as pgvector has it.

use std::cmp::Ordering;

use uuid::Uuid;

use super::halves::{Question, raised, square};
use super::set::{News, Set};

/// One of the nearest. Of a vector of zeros the distance is no number; it comes last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub(super) item: Uuid,
    pub(super) distance: f64,
}

impl Near {
    fn order(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance)
    }
}

/// For each question so many of the set at most, nearest first.
pub(super) fn nearest(set: &Set, questions: &[Vec<f32>], wanted: usize) -> Vec<Vec<Near>> {
    let questions: Vec<Question> = questions.iter().map(|numbers| Question::new(numbers)).collect();
    let mut lists: Vec<Vec<Near>> = questions.iter().map(|_| Vec::with_capacity(set.len())).collect();
    // Block by block: what one question has read is still near when the next one reads it.
    for block in set.blocks() {
        for (question, list) in questions.iter().zip(&mut lists) {
            let mut rows = block.items.iter().zip(&block.squares);
            question.products(&block.halves, |product| {
                list.extend(rows.next().map(|(item, own)| Near {
                    item: *item,
                    distance: distance(product, question.square, *own),
                }));
            });
        }
    }
    for list in &mut lists {
        cut(list, wanted);
    }
    lists
}

/// The nearest of what a set became by some news, where they can be told without the rest of it: of a full list that
/// loses one somebody has to look who follows.
pub(super) fn merged(
    before: &[Near],
    news: &[News],
    question: &[f32],
    wanted: usize,
    is_whole: bool,
) -> Option<Vec<Near>> {
    let is_changed = |near: &&Near| news.iter().any(|(item, _)| *item == near.item);
    if !is_whole && before.iter().any(|near| is_changed(&near)) {
        return None;
    }
    let mut list: Vec<Near> = before.iter().filter(|near| !is_changed(near)).copied().collect();
    let question = Question::new(question);
    for (at, (item, halves)) in news.iter().enumerate() {
        // What came twice counts as it came last.
        let is_last = news[at + 1..].iter().all(|(later, _)| later != item);
        if let Some(halves) = halves.as_ref().filter(|_| is_last) {
            // As a set has it.
            let halves = raised(halves);
            let own = square(&halves);
            question.products(&halves, |product| {
                let distance = distance(product, question.square, own);
                list.push(Near { item: *item, distance });
            });
        }
    }
    cut(&mut list, wanted);
    Some(list)
}

fn cut(list: &mut Vec<Near>, wanted: usize) {
    if wanted < list.len() {
        if wanted > 0 {
            list.select_nth_unstable_by(wanted - 1, Near::order);
        }
        list.truncate(wanted);
    }
    list.sort_unstable_by(Near::order);
}

fn distance(product: f32, one: f32, other: f32) -> f64 {
    let similarity = f64::from(product) / (f64::from(one) * f64::from(other)).sqrt();
    // Whatever sign the processor gives what is no number.
    if similarity.is_nan() {
        return f64::NAN;
    }
    1.0 - similarity.clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use pgvector::HalfVector;
    use proptest::prelude::*;

    use super::*;

    const DIMENSIONS: usize = 19;

    fn halves(numbers: &[f32]) -> Vec<u16> {
        let half = HalfVector::from_f32_slice(numbers);
        half.as_slice().iter().map(|half| half.to_bits()).collect()
    }

    fn set(vectors: &[Vec<f32>]) -> Set {
        let mut set = Set::new(DIMENSIONS, "".into(), "".into());
        for (number, vector) in vectors.iter().enumerate() {
            set.push(Uuid::from_u128(number as u128), &halves(vector));
        }
        set
    }

    fn vector() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec((-200_i16..200).prop_map(|number| f32::from(number) / 64.0), DIMENSIONS)
    }

    /// Without any trick.
    fn plainly(a: &[f32], b: &[f32]) -> f64 {
        let product =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
        1.0 - product(a, b) / (product(a, a) * product(b, b)).sqrt()
    }

    #[test]
    fn a_vector_of_zeros_is_near_to_nothing_and_comes_last() {
        let mut ones = vec![0.0; DIMENSIONS];
        ones[0] = 1.0;
        let opposite: Vec<f32> = ones.iter().map(|number| -number).collect();
        let set = set(&[vec![0.0; DIMENSIONS], opposite, ones.clone()]);
        let list = nearest(&set, &[ones], 10).remove(0);
        let items: Vec<u128> = list.iter().map(|near| near.item.as_u128()).collect();
        assert_eq!(items, [2, 1, 0]);
        assert!(list[0].distance.abs() < 1e-9 && (list[1].distance - 2.0).abs() < 1e-9 && list[2].distance.is_nan());
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_a_sort(
            vectors in prop::collection::vec(vector(), 0..40), questions in prop::collection::vec(vector(), 1..4),
            wanted in 0_usize..20,
        ) {
            let lists = nearest(&set(&vectors), &questions, wanted);
            for (question, list) in questions.iter().zip(lists) {
                let mut all: Vec<f64> = vectors.iter().map(|vector| plainly(question, vector)).collect();
                // What is no number comes last, whatever its sign.
                all.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
                all.truncate(wanted);
                prop_assert_eq!(list.len(), all.len());
                for (near, expected) in list.iter().zip(all) {
                    let own = plainly(question, &vectors[near.item.as_u128() as usize]);
                    for known in [expected, own] {
                        prop_assert_eq!(near.distance.is_nan(), known.is_nan());
                        prop_assert!(known.is_nan() || (near.distance - known).abs() < 1e-5);
                    }
                }
            }
        }

        #[test]
        fn what_is_merged_is_what_is_found_anew(
            vectors in prop::collection::vec(vector(), 0..12), question in vector(), wanted in 0_usize..20,
            news in prop::collection::vec((0_u128..20, prop::option::of(vector())), 0..6),
        ) {
            let before = set(&vectors);
            let news: Vec<_> = news
                .iter()
                .map(|(item, vector)| (Uuid::from_u128(*item), vector.as_deref().map(halves)))
                .collect();
            let known = nearest(&before, std::slice::from_ref(&question), wanted).remove(0);
            let is_whole = known.len() == before.len();
            let anew = nearest(&before.changed(&news, "".into()), std::slice::from_ref(&question), wanted).remove(0);
            if let Some(merged) = merged(&known, &news, &question, wanted, is_whole) {
                let distances = |list: &[Near]| list.iter().map(|near| near.distance.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(distances(&merged), distances(&anew));
            } else {
                prop_assert!(known.len() == wanted && !news.is_empty());
            }
        }
    }
}
