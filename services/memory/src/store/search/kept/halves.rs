//! Products of floats with half floats as Postgres keeps them, written for the compiler to make vector instructions of;
//! `pulp` compiles them once for each kind of processor and takes the one at hand. No `unsafe`, so no conversion by the
//! processor: the bits of a half float are moved into a float's place, where they stand for 2^-112 of their number
//! (IEEE 754), and the question is multiplied by 2^112 beforehand.

use half::f16;
use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};
use half::vec::HalfFloatVecExt as _;
use pulp::{Arch, NullaryFnOnce};

/// Sums that run side by side in a product.
const LANES: usize = 32;
const TWO_TO_112: f32 = f32::from_bits((112 + 127) << 23);
/// Bits of 64.0.
const SIXTY_FOUR: u16 = 0x5400;

/// What vectors are multiplied with.
pub(super) struct Question {
    /// Times 2^112, which is no more than a float holds: numbers of a half float are below 2^16.
    numbers: Vec<f32>,
    /// Its product with itself.
    pub(super) square: f32,
}

impl Question {
    /// Of numbers that fit half floats.
    pub(super) fn new(numbers: &[f32]) -> Self {
        Self {
            numbers: numbers.iter().map(|number| number * TWO_TO_112).collect(),
            square: numbers.iter().map(|number| number * number).sum(),
        }
    }

    /// With each of these vectors, one after the other.
    pub(super) fn products(&self, vectors: &[u16], mut each: impl FnMut(f32)) {
        Arch::new().dispatch(Products {
            question: &self.numbers,
            vectors,
            each: &mut each,
        });
    }
}

struct Products<'a, F> {
    question: &'a [f32],
    vectors: &'a [u16],
    each: &'a mut F,
}

impl<F: FnMut(f32)> NullaryFnOnce for Products<'_, F> {
    type Output = ();

    // Inlined, or it would be compiled for the oldest processor.
    #[inline(always)]
    fn call(self) {
        for vector in self.vectors.chunks_exact(self.question.len().max(1)) {
            (self.each)(product(self.question, vector));
        }
    }
}

#[inline(always)]
fn product(question: &[f32], halves: &[u16]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (numbers, last_numbers) = question.as_chunks::<LANES>();
    let (chunks, last_chunk) = halves.as_chunks::<LANES>();
    for (numbers, chunk) in numbers.iter().zip(chunks) {
        for lane in 0..LANES {
            sums[lane] += numbers[lane] * placed(chunk[lane]);
        }
    }
    let last = last_numbers.iter().zip(last_chunk);
    sums.iter().sum::<f32>() + last.map(|(number, half)| number * placed(*half)).sum::<f32>()
}

/// The bits in a float's place; the sign is copied by the shift and what is too much of it is cut.
#[inline(always)]
fn placed(half: u16) -> f32 {
    f32::from_bits(((i32::from(half.cast_signed()) << 13) & 0x8fff_e000_u32.cast_signed()).cast_unsigned())
}

/// The vector times 2^10, where all of it stays in the range of half floats: nothing of it is subnormal then, which
/// processors multiply a hundred times slower. No digit is lost by it, and a cosine does not depend on a vector's length.
pub(super) fn raised(halves: &[u16]) -> Vec<u16> {
    if halves.iter().any(|half| half & 0x7fff >= SIXTY_FOUR) {
        return halves.to_vec();
    }
    let numbers: Vec<f32> = numbers(halves).iter().map(|number| number * 1_024.0).collect();
    Vec::<f16>::from_f32_slice(&numbers).reinterpret_into()
}

/// A vector's product with itself.
pub(super) fn square(halves: &[u16]) -> f32 {
    numbers(halves).iter().map(|number| number * number).sum()
}

fn numbers(halves: &[u16]) -> Vec<f32> {
    halves.reinterpret_cast::<f16>().to_f32_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(|half| half & 0x7c00 != 0x7c00)
    }

    fn widened(half: u16) -> f32 {
        f16::from_bits(half).to_f32()
    }

    #[test]
    fn every_half_stands_in_a_floats_place_for_what_it_is() {
        for bits in all() {
            assert_eq!(
                (placed(bits) * TWO_TO_112).to_bits(),
                widened(bits).to_bits(),
                "{bits:#06x}"
            );
        }
    }

    #[test]
    fn every_half_is_raised_by_two_to_ten_and_none_is_subnormal() {
        for bits in all() {
            let raised = raised(&[bits])[0];
            if bits & 0x7fff >= SIXTY_FOUR {
                assert_eq!(raised, bits);
            } else {
                assert_eq!(
                    widened(raised).to_bits(),
                    (widened(bits) * 1_024.0).to_bits(),
                    "{bits:#06x}"
                );
                assert!(raised & 0x7fff == 0 || raised & 0x7c00 != 0, "{bits:#06x}");
            }
        }
        assert_eq!(raised(&[SIXTY_FOUR, 1]), [SIXTY_FOUR, 1], "all of it or nothing");
    }

    #[test]
    fn the_greatest_numbers_have_a_product() {
        let halves = vec![0x7bff; 100];
        let mut products = Vec::new();
        Question::new(&[65_504.0; 100]).products(&halves, |product| products.push(product));
        assert!((f64::from(products[0]) / (65_504.0_f64.powi(2) * 100.0) - 1.0).abs() < 1e-6);
    }
}
