//! Made-up embeddings: a mixture of Gaussians in a space of few dimensions, laid into one of many with some noise, as
//! embeddings of texts lie (many near each other, none alone; their intrinsic dimension is far below their length).

/// Of the space that the texts really differ in.
const INTRINSIC: usize = 40;
const CLUSTERS: usize = 200;
/// Of a text from its centre, in each dimension of the small space; the centres are 1 from the middle.
const SPREAD: f32 = 0.8;
/// Length of the noise in all dimensions. So made, a graph that keeps 40 in view finds 0.96 of the really nearest, and one
/// that keeps 100 in view 0.99: a little harder than real texts are.
const NOISE: f32 = 1.0;

pub(super) struct Mixture {
    /// Of each small dimension, where it points in the large space.
    basis: Vec<Vec<f32>>,
    centres: Vec<Vec<f32>>,
    dims: usize,
    random: Random,
}

impl Mixture {
    /// The same vectors for the same seed.
    pub(super) fn new(dims: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let length = (dims as f32).sqrt();
        let mut vector = |count, scale: f32| (0..count).map(|_| random.normal() * scale).collect();
        Self {
            basis: (0..INTRINSIC).map(|_| vector(dims, 1.0 / length)).collect(),
            centres: (0..CLUSTERS).map(|_| vector(INTRINSIC, 1.0)).collect(),
            dims,
            random,
        }
    }

    /// The next one, of length 1.
    pub(super) fn vector(&mut self) -> Vec<f32> {
        let random = &mut self.random;
        let centre = &self.centres[random.below(CLUSTERS)];
        let noise = NOISE / (self.dims as f32).sqrt();
        let mut vector: Vec<f32> = (0..self.dims).map(|_| noise * random.normal()).collect();
        for (place, basis) in centre.iter().zip(&self.basis) {
            let place = place + SPREAD * random.normal();
            for (number, along) in vector.iter_mut().zip(basis) {
                *number += place * along;
            }
        }
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|number| *number /= length);
        vector
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Within 0 and 1, neither of them.
    fn share(&mut self) -> f32 {
        ((self.next() >> 41) as f32 + 0.5) / (1_u64 << 23) as f32
    }

    /// By the method of Box and Muller.
    fn normal(&mut self) -> f32 {
        let (radius, angle) = (self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_come_again_for_the_same_seed() {
        let (mut one, mut same, mut other) = (Mixture::new(384, 7), Mixture::new(384, 7), Mixture::new(384, 8));
        let vector = one.vector();
        assert_eq!(vector, same.vector());
        assert_ne!(vector, other.vector());
        let length: f32 = vector.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }

    #[test]
    fn some_are_near_each_other_and_most_are_not() {
        let mut mixture = Mixture::new(384, 7);
        let vectors: Vec<Vec<f32>> = (0..600).map(|_| mixture.vector()).collect();
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<f32> = vectors[1..].iter().map(|vector| product(&vectors[0], vector)).collect();
        all.sort_by(f32::total_cmp);
        let (median, most) = (all[all.len() / 2], all[all.len() - 1]);
        assert!(median.abs() < 0.2 && most > 0.35, "{median} {most}");
    }
}
