//! The tensor form of an ocr model: one picture in, its lines out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use larder_contract::Parameters;

use crate::error::ApiError;
use crate::models::Model;
use crate::protocol::seed;
use crate::tasks::tensor::{Datatype, Elements, NamedTensor, Port};

const IMAGE: &str = "image";
const TEXT: &str = "text";
const CONFIDENCE: &str = "confidence";
const BOX: &str = "box";

/// A picture's bytes in base64: JSON has no bytes.
pub(super) fn inputs() -> Vec<Port> {
    vec![Port { name: IMAGE.to_owned(), datatype: Some(Datatype::Bytes), shape: vec![1] }]
}

/// One row for each line: its text, how sure the model is of it, its four corners.
pub(super) fn outputs() -> Vec<Port> {
    let port = |name: &str, datatype, shape: &[i64]| Port {
        name: name.to_owned(),
        datatype: Some(datatype),
        shape: shape.to_vec(),
    };
    vec![
        port(TEXT, Datatype::Bytes, &[-1]),
        port(CONFIDENCE, Datatype::Fp64, &[-1]),
        port(BOX, Datatype::Fp32, &[-1, 4, 2]),
    ]
}

/// Reads the picture; tensors are checked against [`inputs`] and [`outputs`] already.
pub(super) async fn run(
    model: &Model,
    given: Vec<NamedTensor>,
    wanted: &[String],
) -> Result<Vec<NamedTensor>, ApiError> {
    let picture = given.into_iter().find_map(|tensor| {
        let Elements::Bytes(values) = tensor.elements else { return None };
        values.into_iter().next()
    });
    let bytes = BASE64_STANDARD
        .decode(picture.unwrap_or_default().trim())
        .map_err(|e| ApiError::bad_request(format!("input {IMAGE:?} is not base64: {e}")))?;
    let lines = seed::read(model, bytes.into(), Parameters::default()).await?;
    let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
    let tensor = |name: &String| match name.as_str() {
        TEXT => (vec![count], Elements::Bytes(lines.iter().map(|l| l.text.clone()).collect())),
        CONFIDENCE => (vec![count], Elements::Fp64(lines.iter().map(|l| l.confidence).collect())),
        _ => {
            let corners = lines.iter().flat_map(|l| l.corners.into_iter().flatten()).collect();
            (vec![count, 4, 2], Elements::Fp32(corners))
        }
    };
    Ok(wanted
        .iter()
        .map(|name| {
            let (shape, elements) = tensor(name);
            NamedTensor { name: name.clone(), shape, elements }
        })
        .collect())
}
