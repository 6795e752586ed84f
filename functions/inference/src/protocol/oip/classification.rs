//! The greatest values of an output instead of all of it (Triton, "Classification Extension").

use bytes::Bytes;

use crate::error::ApiError;
use crate::tasks::tensor::{Elements, NamedTensor, each_number};

/// A tensor's `most` greatest values as texts `value:index`, for each entry of its first dimension when it
/// has more than one. NaN comes last.
///
/// # Errors
/// 400 for a tensor of texts.
pub(super) fn greatest(tensor: NamedTensor, most: usize) -> Result<NamedTensor, ApiError> {
    let NamedTensor { name, shape, elements } = tensor;
    let rows = match &shape[..] {
        [rows, _, ..] => usize::try_from(*rows).unwrap_or(0),
        [_] | [] => 1,
    };
    let width = elements.len().checked_div(rows).unwrap_or(0);
    macro_rules! found {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match &elements {
                $(Elements::$variant(values) => of_rows(values, width, most),)+
                Elements::Bytes(_) => {
                    return Err(ApiError::bad_request(format!(
                        "output {name:?}: \"classification\" is for numbers, but its datatype is BYTES"
                    )));
                }
            }
        };
    }
    let found = each_number!(found);
    let classes = i64::try_from(found.len().checked_div(rows).unwrap_or(0)).unwrap_or(i64::MAX);
    let shape = if shape.len() > 1 { vec![shape[0], classes] } else { vec![classes] };
    Ok(NamedTensor { name, shape, elements: Elements::Bytes(found) })
}

fn of_rows<T: PartialOrd + std::fmt::Display>(values: &[T], width: usize, most: usize) -> Vec<Bytes> {
    let mut found = Vec::new();
    for row in values.chunks_exact(width.max(1)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        // What cannot be compared goes last, so the order is total.
        let is_nan = |at: usize| row[at].partial_cmp(&row[at]).is_none();
        order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b))));
        let texts = order.into_iter().take(most).map(|at| Bytes::from(format!("{}:{at}", row[at])));
        found.extend(texts);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_with_their_places() {
        let check = |elements, shape: &[i64], most, expected_shape: &[i64], expected: &[&str]| {
            let tensor = NamedTensor { name: "y".to_owned(), shape: shape.to_vec(), elements };
            let found = greatest(tensor, most).unwrap();
            let texts = expected.iter().map(|t| Bytes::copy_from_slice(t.as_bytes())).collect();
            assert_eq!((&found.shape[..], found.elements), (expected_shape, Elements::Bytes(texts)));
        };
        let scores = || Elements::Fp32(vec![1.1, 3.3, 0.5, 2.4]);
        check(scores(), &[4], 2, &[2], &["3.3:1", "2.4:3"]);
        check(scores(), &[2, 2], 1, &[2, 1], &["3.3:1", "2.4:1"]);
        check(scores(), &[1, 2, 2], 9, &[1, 4], &["3.3:1", "2.4:3", "1.1:0", "0.5:2"]);
        check(Elements::Fp64(vec![f64::NAN, 1.0, 1.0]), &[3], 3, &[3], &["1:1", "1:2", "NaN:0"]);
        check(Elements::Int8(vec![-3]), &[], 1, &[1], &["-3:0"]);
        check(Elements::Int8(vec![]), &[0], 1, &[0], &[]);
        check(Elements::Int8(vec![]), &[2, 0], 1, &[2, 0], &[]);
        let texts = Elements::Bytes(vec![Bytes::from_static(b"a")]);
        let tensor = NamedTensor { name: "y".to_owned(), shape: vec![1], elements: texts };
        assert!(greatest(tensor, 1).unwrap_err().message.contains("\"y\""));
    }
}
