//! A transformer's ONNX graph: its inputs are told by name, filled in the integer type that it asks for.

use std::borrow::Cow;

use ort::session::SessionOutputs;
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};
use tokenizers::Encoding;

use crate::onnx::{OnnxError, Session};
use crate::tasks::{TaskError, outputs};

/// What fills the places that a shorter text leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padding {
    /// The token.
    pub(super) id: u32,
    /// Before the text, not after it.
    pub(super) left: bool,
}

/// What an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
    Positions,
}

/// An input: its name, what it is for, and whether it takes 64-bit integers or 32-bit ones.
#[derive(Debug)]
struct Input {
    name: String,
    role: Role,
    wide: bool,
}

/// The graph, open.
#[derive(Debug)]
pub(super) struct TextGraph {
    session: Session,
    inputs: Vec<Input>,
    rows: Option<usize>,
    length: Option<usize>,
}

/// An output of one batch.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// All values, row by row.
    pub(super) values: Cow<'a, [f32]>,
    /// The shape: rows first.
    pub(super) shape: &'a [i64],
    /// Where each row's own tokens are; what lies outside is padding.
    pub(super) tokens: Vec<std::ops::Range<usize>>,
}

impl TextGraph {
    pub(super) fn new(session: Session) -> Result<Self, OnnxError> {
        let mut inputs = Vec::new();
        let (mut rows, mut length) = (None, None);
        for outlet in session.ort().inputs() {
            let (input, shape) = input(outlet).map_err(|problem| session.unfit(problem))?;
            if input.role == Role::Ids {
                let fixed = |size: &i64| usize::try_from(*size).ok().filter(|&size| size > 0);
                (rows, length) = (shape.first().and_then(fixed), shape.get(1).and_then(fixed));
            }
            inputs.push(input);
        }
        if !inputs.iter().any(|input| input.role == Role::Ids) {
            return Err(session.unfit("has no input input_ids, so it is no text model".to_owned()));
        }
        Ok(Self { session, inputs, rows, length })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The texts of a run, when the graph fixes them.
    pub(super) fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// The tokens of a text, when the graph fixes them.
    pub(super) fn length(&self) -> Option<usize> {
        self.length
    }

    /// Runs one batch and hands the output of that name to `read`.
    pub(super) fn run<R>(
        &mut self,
        batch: &[&Encoding],
        padding: Padding,
        output: &str,
        read: impl FnOnce(&Rows<'_>) -> Result<R, TaskError>,
    ) -> Result<R, TaskError> {
        let longest = batch.iter().map(|e| e.len()).max().unwrap_or(0);
        let length = self.length.unwrap_or(longest).max(longest);
        let rows = self.rows.unwrap_or(batch.len()).max(batch.len());
        let tokens = batch
            .iter()
            .map(|encoding| {
                let start = if padding.left { length - encoding.len() } else { 0 };
                start..start + encoding.len()
            })
            .collect::<Vec<_>>();
        let path = self.session.path().to_owned();
        let failed = |source| OnnxError::Run { path: path.clone(), source };
        let mut values = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let filled = filled(input.role, batch, &tokens, [rows, length], padding);
            let value = tensor(input.wide, [rows, length], filled).map_err(failed)?;
            values.push((input.name.clone(), value));
        }
        let unfit = |problem: String| OnnxError::Unfit { path: path.clone(), problem };
        let answered = |answers: &mut SessionOutputs<'_>| {
            let value = answers.get(output).ok_or_else(|| unfit(format!("gave no output {output}")))?;
            let floats = outputs::floats(value);
            let (shape, values) =
                floats.ok_or_else(|| unfit(format!("has no floats in its output {output}")))?;
            if shape.first() != i64::try_from(rows).ok().as_ref() || values.len() % rows != 0 {
                let problem = format!("answers {rows} texts with a tensor {output} of the shape {shape:?}");
                return Err(unfit(problem).into());
            }
            read(&Rows { values, shape, tokens })
        };
        self.session.run(&values, answered).map_err(failed)?
    }
}

fn input(outlet: &Outlet) -> Result<(Input, Vec<i64>), String> {
    let name = outlet.name().to_owned();
    let role = match name.as_str() {
        "input_ids" => Role::Ids,
        "attention_mask" => Role::Mask,
        "token_type_ids" => Role::Types,
        "position_ids" => Role::Positions,
        other => {
            return Err(format!(
                "has an input {other}, but a text model has input_ids, attention_mask, token_type_ids and position_ids only; \
                 export it for its task, or give it the task tensor"
            ));
        }
    };
    let wide = match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Int64, shape, .. } => Some((true, shape)),
        ValueType::Tensor { ty: TensorElementType::Int32, shape, .. } => Some((false, shape)),
        ValueType::Tensor { .. }
        | ValueType::Sequence(_)
        | ValueType::Map { .. }
        | ValueType::Optional(_) => None,
    };
    match wide {
        Some((wide, shape)) if shape.len() == 2 => Ok((Input { name, role, wide }, shape.to_vec())),
        _ => {
            Err(format!("does not take {name} as a tensor of texts and tokens in 32-bit or 64-bit integers"))
        }
    }
}

/// The values of an input: of each text, and of the rows that only make a fixed size full.
fn filled(
    role: Role,
    batch: &[&Encoding],
    tokens: &[std::ops::Range<usize>],
    [rows, length]: [usize; 2],
    padding: Padding,
) -> Vec<u32> {
    let empty = if role == Role::Ids { padding.id } else { 0 };
    let mut values = vec![empty; rows * length];
    for ((row, encoding), own) in values.chunks_exact_mut(length.max(1)).zip(batch).zip(tokens) {
        let own = &mut row[own.clone()];
        match role {
            Role::Ids => own.copy_from_slice(encoding.get_ids()),
            Role::Mask => own.copy_from_slice(encoding.get_attention_mask()),
            Role::Types => own.copy_from_slice(encoding.get_type_ids()),
            Role::Positions => own.iter_mut().zip(0..).for_each(|(value, position)| *value = position),
        }
    }
    // A row of nothing but padding divides by zero in some graphs, and a NaN may spread: show it one token.
    if role == Role::Mask {
        values.chunks_exact_mut(length.max(1)).skip(batch.len()).for_each(|row| row[0] = 1);
    }
    values
}

fn tensor(wide: bool, shape: [usize; 2], values: Vec<u32>) -> Result<DynValue, ort::Error> {
    if wide {
        let values: Vec<i64> = values.into_iter().map(i64::from).collect();
        return Ok(Tensor::from_array((shape, values))?.into_dyn());
    }
    let values: Vec<i32> = values.into_iter().map(u32::cast_signed).collect();
    Ok(Tensor::from_array((shape, values))?.into_dyn())
}
