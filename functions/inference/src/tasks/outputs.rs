//! What graphs of several tasks answer with.

use std::borrow::Cow;

use ort::value::{DynValue, ValueType};

use crate::onnx::{OnnxError, Session};

/// The output that has a classifier's scores: the one called `logits`, else the first.
pub(crate) fn of_scores(session: &Session) -> Result<String, OnnxError> {
    let outputs = session.ort().outputs();
    let scores = outputs.iter().find(|o| o.name() == "logits").or(outputs.first());
    match scores.map(|o| (o.name(), o.dtype())) {
        Some((name, ValueType::Tensor { shape, .. })) if shape.len() == 2 => Ok(name.to_owned()),
        _ => Err(session.unfit(
            "has no output with one row of scores for each input, as a classifier has; \
             export it for its task, or give it the task tensor"
                .to_owned(),
        )),
    }
}

/// A tensor of floats of any width, as 32-bit ones, row by row.
pub(crate) fn floats(value: &DynValue) -> Option<(&[i64], Cow<'_, [f32]>)> {
    if let Ok((shape, values)) = value.try_extract_tensor::<f32>() {
        return Some((shape, Cow::Borrowed(values)));
    }
    if let Ok((shape, values)) = value.try_extract_tensor::<half::f16>() {
        return Some((shape, values.iter().map(|v| v.to_f32()).collect()));
    }
    let (shape, values) = value.try_extract_tensor::<half::bf16>().ok()?;
    Some((shape, values.iter().map(|v| v.to_f32()).collect()))
}
