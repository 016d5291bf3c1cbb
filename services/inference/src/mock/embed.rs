//! Vectors of the mock: deterministic, without meaning, near for texts that share words. For tests, not for recall.

use mesh_models::{Texts, TryError, Vectors};

use super::Mock;

/// The model's name.
pub(crate) const EMBED: &str = "mock:embed";
/// Numbers in a vector unless others are asked for.
const DIMENSIONS: u32 = 384;
const DIMENSIONS_MAX: u32 = 4_096;

impl Mock {
    /// One vector of length 1 per text.
    pub(crate) fn embed(&self, asked: Texts<'_>) -> Result<Vectors, TryError> {
        let dimensions = asked.dimensions.unwrap_or(DIMENSIONS);
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(TryError::Unsupported(format!(
                "the mock gives vectors of 1 to {DIMENSIONS_MAX} numbers"
            )));
        }
        let words = |text: &String| text.split_whitespace().count() as u64;
        Ok(Vectors {
            vectors: asked
                .texts
                .iter()
                .map(|text| vector(text, dimensions as usize))
                .collect(),
            input_tokens: Some(asked.texts.iter().map(words).sum()),
        })
    }
}

/// Each word counts at one place, with a sign (the hashing trick of Weinberger et al., ICML 2009).
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    let lower = text.to_lowercase();
    let words = lower.split(|character: char| !character.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        let hash = hash(word.as_bytes());
        vector[place(hash, dimensions)] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length == 0.0 {
        vector[place(hash(text.as_bytes()), dimensions)] = 1.0;
        return vector;
    }
    vector.iter_mut().for_each(|number| *number /= length);
    vector
}

fn place(hash: u64, dimensions: usize) -> usize {
    usize::try_from(hash % dimensions as u64).expect("below the number of dimensions")
}

/// FNV-1a, its bits mixed by a multiplication and a shift since the high ones decide the sign.
fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_the_same_vector_and_shared_words_are_near() {
        let cosine = |a: &str, b: &str| -> f32 {
            let (a, b) = (vector(a, 384), vector(b, 384));
            a.iter().zip(&b).map(|(a, b)| a * b).sum()
        };
        assert!((cosine("Green tea", "green TEA!") - 1.0).abs() < 1e-5);
        assert!(cosine("green tea in the morning", "tea in the evening") > 0.4);
        assert!(cosine("green tea", "quarterly report").abs() < 0.4);
        for text in ["", "...", "чай"] {
            let length: f32 = vector(text, 8).iter().map(|number| number * number).sum();
            assert!((length - 1.0).abs() < 1e-5, "{text}");
        }
    }
}
