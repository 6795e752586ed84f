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
