//! Vectors as protocols give them out.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;
use crate::tasks::Embedding;

/// A text's vector, or one for each of its tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Vectors {
    /// The text's.
    One(Vec<f32>),
    /// The tokens'.
    Each(Vec<Vec<f32>>),
}

/// The rows of an embedding: flat when there is one for the text.
pub(super) fn nested(embedding: Embedding) -> Vectors {
    let Embedding { values, width, .. } = embedding;
    if values.len() == width {
        return Vectors::One(values);
    }
    Vectors::Each(values.chunks(width.max(1)).map(<[f32]>::to_vec).collect())
}

/// A vector cut to its first `dimensions`, then brought to length 1: how models that are trained so
/// (Matryoshka) give shorter vectors.
///
/// # Errors
/// 400 that names the field when the vector has no so many dimensions.
pub(super) fn shortened(embedding: Embedding, dimensions: Option<usize>) -> Result<Embedding, ApiError> {
    let width = embedding.width;
    let Some(wanted) = dimensions.filter(|wanted| *wanted != width) else { return Ok(embedding) };
    if wanted == 0 || wanted > width {
        let message = format!("field \"dimensions\" is {wanted}; this model gives 1 to {width}");
        return Err(ApiError::bad_request(message));
    }
    let mut values = Vec::with_capacity(embedding.values.len() / width * wanted);
    for row in embedding.values.chunks(width) {
        let row = &row[..wanted.min(row.len())];
        let length = length(row);
        values.extend(row.iter().map(|v| if length > 0.0 { v / length } else { *v }));
    }
    Ok(Embedding { values, width: wanted, tokens: embedding.tokens })
}

/// The cosine of the first vector with each of the others: 1 for the same direction.
pub(super) fn similarities(embeddings: &[Embedding]) -> Vec<f32> {
    let Some((first, others)) = embeddings.split_first() else { return Vec::new() };
    let cosine = |other: &Embedding| {
        let product: f32 = first.values.iter().zip(&other.values).map(|(a, b)| a * b).sum();
        let lengths = length(&first.values) * length(&other.values);
        if lengths > 0.0 { product / lengths } else { 0.0 }
    };
    others.iter().map(cosine).collect()
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|v| v * v).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(values: &[f32], width: usize) -> Embedding {
        Embedding { values: values.to_vec(), width, tokens: 1 }
    }

    #[test]
    fn shorter_vectors_have_length_one() {
        let check = |values: &[f32], width, dimensions, expected: Option<&[f32]>| {
            let found = shortened(embedding(values, width), dimensions).ok().map(|e| e.values);
            assert_eq!(found.as_deref(), expected, "{values:?} {dimensions:?}");
        };
        check(&[3.0, 4.0, 12.0], 3, Some(2), Some(&[0.6, 0.8]));
        check(&[3.0, 4.0, 12.0], 3, Some(3), Some(&[3.0, 4.0, 12.0]));
        check(&[3.0, 4.0, 12.0], 3, None, Some(&[3.0, 4.0, 12.0]));
        check(&[0.0, 4.0, 2.0, 1.0], 2, Some(1), Some(&[0.0, 1.0]));
        check(&[3.0, 4.0], 2, Some(3), None);
        check(&[3.0, 4.0], 2, Some(0), None);
    }

    #[test]
    fn one_vector_is_flat_and_tokens_are_rows() {
        let text = |values: &[f32]| serde_json::to_string(&nested(embedding(values, 2))).unwrap();
        assert_eq!(text(&[1.0, 2.0]), "[1.0,2.0]");
        assert_eq!(text(&[1.0, 2.0, 3.0, 4.0]), "[[1.0,2.0],[3.0,4.0]]");
    }

    #[test]
    fn similarity_is_the_cosine() {
        let all = [[1.0, 0.0], [2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [0.0, 0.0]].map(|v| embedding(&v, 2));
        assert_eq!(similarities(&all), [1.0, 0.0, -1.0, 0.0]);
    }
}
