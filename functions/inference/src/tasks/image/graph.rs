//! A picture classifier's ONNX graph: colours first or last, as its input's shape says.

use ort::session::SessionOutputs;
use ort::value::{DynValue, Tensor, TensorElementType, ValueType};

use super::processor::Processor;
use crate::onnx::{OnnxError, Session};
use crate::tasks::outputs;
use crate::tasks::picture::Picture;

/// The graph, open.
#[derive(Debug)]
pub(super) struct PictureGraph {
    session: Session,
    input: String,
    output: String,
    /// Colours are the last dimension, not the second.
    colours_last: bool,
    /// Takes numbers of 16 bits.
    half: bool,
    rows: Option<usize>,
    size: Option<[usize; 2]>,
}

impl PictureGraph {
    pub(super) fn new(session: Session) -> Result<Self, OnnxError> {
        let inputs = session.ort().inputs();
        let found = match inputs {
            [only] => match only.dtype() {
                ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => Some((only, shape, false)),
                ValueType::Tensor { ty: TensorElementType::Float16, shape, .. } => Some((only, shape, true)),
                ValueType::Tensor { .. }
                | ValueType::Sequence(_)
                | ValueType::Map { .. }
                | ValueType::Optional(_) => None,
            },
            _ => None,
        };
        let shape = found.and_then(|(_, shape, _)| <[i64; 4]>::try_from(&shape[..]).ok());
        let (Some((input, _, half)), Some([rows, second, third, fourth])) = (found, shape) else {
            return Err(session.unfit(
                "does not take one tensor of pictures, with four dimensions of floats, as a classifier does; \
                 give it the task tensor"
                    .to_owned(),
            ));
        };
        let colours_last = second != 3 && fourth == 3;
        let (colours, height, width) =
            if colours_last { (fourth, second, third) } else { (second, third, fourth) };
        if !matches!(colours, 3 | -1) {
            return Err(session.unfit(format!("takes pictures of {colours} colours, but they have 3 here")));
        }
        let fixed = |size: i64| usize::try_from(size).ok().filter(|&size| size > 0);
        let (input, output) = (input.name().to_owned(), outputs::of_scores(&session)?);
        let size = fixed(width).zip(fixed(height)).map(|(width, height)| [width, height]);
        Ok(Self { session, input, output, colours_last, half, rows: fixed(rows), size })
    }

    /// The pictures of a run, when the graph fixes them.
    pub(super) fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// The width and height that the graph insists on.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        self.size
    }

    /// Runs pictures of one size and hands each one's scores to `read`, in order.
    pub(super) fn run(
        &mut self,
        pictures: &[Picture],
        processor: &Processor,
        mut read: impl FnMut(&[f32]),
    ) -> Result<(), OnnxError> {
        let [Picture { width, height, .. }, ..] = pictures else { return Ok(()) };
        let rows = self.rows.unwrap_or(pictures.len()).max(pictures.len());
        let mut values = Vec::with_capacity(rows * 3 * width * height);
        for picture in pictures {
            processor.write(picture, self.colours_last, &mut values);
        }
        values.resize(rows * 3 * width * height, 0.0);
        let shape = if self.colours_last { [rows, *height, *width, 3] } else { [rows, 3, *height, *width] };
        let path = self.session.path().to_owned();
        let failed = |source| OnnxError::Run { path: path.clone(), source };
        let input = tensor(self.half, shape, values).map_err(failed)?;
        let output = &self.output;
        let answered = |answers: &mut SessionOutputs<'_>| match answers.get(output).and_then(outputs::floats)
        {
            Some((_, scores)) if scores.len() >= rows && scores.len() % rows == 0 => {
                scores.chunks_exact(scores.len() / rows).take(pictures.len()).for_each(&mut read);
                Ok(())
            }
            _ => Err(OnnxError::Unfit {
                path: path.clone(),
                problem: format!("gave no scores of {rows} pictures in its output {output}"),
            }),
        };
        self.session.run(&[(self.input.clone(), input)], answered).map_err(failed)?
    }
}

fn tensor(half: bool, shape: [usize; 4], values: Vec<f32>) -> Result<DynValue, ort::Error> {
    if half {
        let values: Vec<half::f16> = values.into_iter().map(half::f16::from_f32).collect();
        return Ok(Tensor::from_array((shape, values))?.into_dyn());
    }
    Ok(Tensor::from_array((shape, values))?.into_dyn())
}
