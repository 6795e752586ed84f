//! How a text's token vectors become one.

use larder_contract::Pooling;

/// The least length that a vector is divided by, as in `torch.nn.functional.normalize`.
const LEAST_LENGTH: f32 = 1e-12;

/// One vector of a text's `tokens`, `width` values each, at least one token; or all of them, with no
/// pooling.
pub(super) fn pooled(pooling: Pooling, tokens: &[f32], width: usize) -> Vec<f32> {
    match pooling {
        Pooling::None => tokens.to_vec(),
        Pooling::Cls => tokens[..width].to_vec(),
        Pooling::LastToken => tokens[tokens.len() - width..].to_vec(),
        Pooling::Max => folded(tokens, width, f32::max),
        Pooling::Mean => weighted(tokens, width, |_| 1.0, |count| count),
        Pooling::MeanSqrtLength => weighted(tokens, width, |_| 1.0, f32::sqrt),
        Pooling::WeightedMean => weighted(tokens, width, |place| place, |weights| weights),
    }
}

/// The sum of all tokens, each times the weight of its place from 1 on, by what `divisor` makes of the sum of
/// weights.
fn weighted(
    tokens: &[f32],
    width: usize,
    weight: impl Fn(f32) -> f32,
    divisor: impl Fn(f32) -> f32,
) -> Vec<f32> {
    let (mut sum, mut weights, mut place) = (vec![0.0; width], 0.0, 0.0);
    for token in tokens.chunks_exact(width) {
        place += 1.0;
        let weight = weight(place);
        weights += weight;
        for (sum, value) in sum.iter_mut().zip(token) {
            *sum += weight * value;
        }
    }
    let divisor = divisor(weights);
    for value in &mut sum {
        *value /= divisor;
    }
    sum
}

fn folded(tokens: &[f32], width: usize, both: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut all = tokens[..width].to_vec();
    for token in tokens[width..].chunks_exact(width) {
        for (value, other) in all.iter_mut().zip(token) {
            *value = both(*value, *other);
        }
    }
    all
}

/// Brings each vector to length 1; one of nothing but zeros stays.
pub(super) fn normalise(values: &mut [f32], width: usize) {
    for vector in values.chunks_exact_mut(width.max(1)) {
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(LEAST_LENGTH);
        for value in vector {
            *value /= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_one_vector() {
        let tokens = [1.0, 5.0, 3.0, -1.0, 2.0, 2.0];
        let check =
            |pooling, expected: &[f32]| assert_eq!(pooled(pooling, &tokens, 2), expected, "{pooling:?}");
        check(Pooling::Mean, &[2.0, 2.0]);
        check(Pooling::MeanSqrtLength, &[6.0 / 3.0_f32.sqrt(), 6.0 / 3.0_f32.sqrt()]);
        check(Pooling::WeightedMean, &[13.0 / 6.0, 9.0 / 6.0]);
        check(Pooling::Cls, &[1.0, 5.0]);
        check(Pooling::Max, &[3.0, 5.0]);
        check(Pooling::LastToken, &[2.0, 2.0]);
        check(Pooling::None, &tokens);
    }

    #[test]
    fn vectors_have_length_one_after_it() {
        let mut values = [3.0, 4.0, 0.0, 0.0];
        normalise(&mut values, 2);
        assert!(values.iter().zip([0.6, 0.8, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    }
}
