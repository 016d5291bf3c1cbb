//! Texts in, vectors out: what embedding endpoints of all wires have in common. No I/O.

use crate::answer::TryError;

/// Most texts of one request: what the strictest well-known server takes is above it.
pub const TEXTS_MAX: usize = 256;
/// Longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Longest answer: 256 vectors of 4,096 numbers, each written out with some 13 letters, and a little more.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is to be embedded, and the model's name as its provider knows it.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    pub model: &'a str,
    pub texts: &'a [String],
    /// Asked of providers that can shorten their vectors.
    pub dimensions: Option<u32>,
}

/// One vector per text, in order, all of one length, all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts; absent when the provider counted nothing.
    pub input_tokens: Option<u64>,
}

impl Vectors {
    /// # Errors
    /// [`TryError::Protocol`]: it is not what was asked for.
    pub(crate) fn checked(
        asked: Texts<'_>,
        vectors: Vec<Vec<f32>>,
        input_tokens: Option<u64>,
    ) -> Result<Self, TryError> {
        let wrong = |what: String| Err(TryError::Protocol(what));
        Self::check_count(asked, vectors.len())?;
        let length = vectors.first().map_or(0, Vec::len);
        if vectors.iter().any(|vector| vector.is_empty() || vector.len() != length) {
            return wrong("its vectors are not all of one length".to_owned());
        }
        if vectors.iter().flatten().any(|number| !number.is_finite()) {
            return wrong("a vector holds what is no number".to_owned());
        }
        if let Some(dimensions) = asked.dimensions.filter(|&dimensions| dimensions as usize != length) {
            return wrong(format!("vectors of {length} numbers where {dimensions} were asked for"));
        }
        Ok(Self { vectors, input_tokens })
    }

    pub(crate) fn check_count(asked: Texts<'_>, vectors: usize) -> Result<(), TryError> {
        let texts = asked.texts.len();
        if vectors == texts {
            return Ok(());
        }
        Err(TryError::Protocol(format!("{vectors} vectors for {texts} texts")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_an_answer() {
        let texts = ["a".to_owned(), "b".to_owned()];
        let asked = |dimensions| Texts {
            model: "m",
            texts: &texts,
            dimensions,
        };
        let check = |vectors: &[&[f32]], dimensions| {
            let vectors = vectors.iter().map(|vector| vector.to_vec()).collect();
            Vectors::checked(asked(dimensions), vectors, None)
        };
        assert!(check(&[&[1.0, 0.0], &[0.0, 1.0]], None).is_ok());
        assert!(check(&[&[1.0, 0.0], &[0.0, 1.0]], Some(2)).is_ok());
        for (wrong, dimensions) in [
            (vec![&[1.0_f32][..]], None),
            (vec![&[1.0], &[1.0, 2.0]], None),
            (vec![&[], &[]], None),
            (vec![&[f32::NAN], &[1.0]], None),
            (vec![&[1.0], &[1.0]], Some(2)),
        ] {
            assert!(
                matches!(check(&wrong, dimensions), Err(TryError::Protocol(_))),
                "{wrong:?}"
            );
        }
    }
}
