//! The functions between the matrix products, row by row.

use ndarray::{ArrayView1, ArrayViewMut2};

/// `x · Φ(x)`, the exact form that BERT was trained with (Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016).
pub(crate) fn gelu(values: &mut [f32]) {
    for x in values {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Abramowitz, Stegun, "Handbook of Mathematical Functions", 7.1.26: within 1.5e-7, which is what single precision has.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let polynomial = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

/// Each row becomes positive and sums to 1. The largest is taken off first, so that nothing overflows.
pub(crate) fn softmax(mut rows: ArrayViewMut2<'_, f32>, scale: f32) {
    for mut row in rows.rows_mut() {
        let largest = row.iter().fold(f32::NEG_INFINITY, |largest, x| largest.max(*x));
        let mut sum = 0.0;
        for x in &mut row {
            *x = ((*x - largest) * scale).exp();
            sum += *x;
        }
        row /= sum;
    }
}

/// Each row gets mean 0 and variance 1, then weight and bias (Ba, Kiros, Hinton, "Layer Normalization", 2016).
pub(crate) fn layer_norm(
    mut rows: ArrayViewMut2<'_, f32>,
    weight: ArrayView1<'_, f32>,
    bias: ArrayView1<'_, f32>,
    epsilon: f32,
) {
    for mut row in rows.rows_mut() {
        let count = row.len() as f32;
        let mean = row.sum() / count;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((x, weight), bias) in row.iter_mut().zip(&weight).zip(&bias) {
            *x = (*x - mean) * scale * weight + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{array, aview1};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_error_function_has_its_known_values() {
        // Abramowitz, Stegun, table 7.1.
        let known = [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_2)];
        for (x, wanted) in known {
            assert!((erf(x) - wanted).abs() < 1e-6 && (erf(-x) + wanted).abs() < 1e-6, "{x}");
        }
        assert_eq!((erf(30.0), erf(-30.0)), (1.0, -1.0));
        let mut values = [0.0, 1.0, -1.0, 40.0, -40.0];
        gelu(&mut values);
        let wanted = [0.0, 0.841_344_7, -0.158_655_25, 40.0, 0.0];
        assert!(
            values
                .iter()
                .zip(wanted)
                .all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5),
            "{values:?}"
        );
    }

    #[test]
    fn a_normalized_row_has_mean_0_and_variance_1() {
        let mut rows = array![[1.0_f32, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]];
        layer_norm(rows.view_mut(), aview1(&[1.0; 4]), aview1(&[0.0; 4]), 1e-12);
        let deviation = 1.25_f32.sqrt();
        let wanted = [-1.5, -0.5, 0.5, 1.5].map(|x| x / deviation);
        assert!(
            rows.row(0).iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6),
            "{rows}"
        );
        assert!(rows.row(1).iter().all(|x| *x == 0.0), "{rows}");
    }

    proptest! {
        #[test]
        fn softmax_is_a_distribution_that_keeps_the_order(row in prop::collection::vec(-1e4_f32..1e4, 1..40)) {
            let mut rows = ndarray::Array2::from_shape_vec((1, row.len()), row.clone()).unwrap();
            softmax(rows.view_mut(), 0.5);
            prop_assert!((rows.sum() - 1.0).abs() < 1e-4);
            for (i, j) in (1..row.len()).map(|j| (j - 1, j)) {
                prop_assert!((row[i] <= row[j]) <= (rows[[0, i]] <= rows[[0, j]]));
            }
        }
    }
}
