//! Tensors in, tensors out: any ONNX graph. `elements` has the tensors.

mod elements;

use std::collections::BTreeMap;

use bytes::Bytes;
use ort::ErrorCode;
use ort::session::SessionOutputs;
use ort::value::{DynValue, Outlet, Tensor, ValueType};

use crate::onnx::{OnnxError, Session};
use crate::tasks::TaskError;
pub(crate) use elements::each_number;
pub use elements::{Datatype, Elements, NamedTensor, Port, Ports};

/// One ONNX graph, open.
#[derive(Debug)]
pub struct TensorModel {
    session: Session,
}

impl TensorModel {
    /// Takes an open graph.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// The graph's inputs.
    #[must_use]
    pub fn inputs(&self) -> Vec<Port> {
        self.session.ort().inputs().iter().map(port).collect()
    }

    /// The graph's outputs.
    #[must_use]
    pub fn outputs(&self) -> Vec<Port> {
        self.session.ort().outputs().iter().map(port).collect()
    }

    /// Runs the graph for the `wanted` outputs, in that order. Names and types must be the graph's own:
    /// the protocol's side has checked them.
    ///
    /// # Errors
    /// [`TaskError::Refused`] for texts that ONNX cannot hold and for sizes that do not go together;
    /// [`OnnxError::Run`] when the graph fails; [`OnnxError::Unfit`] when an output has no form in the
    /// protocol.
    pub fn run(
        &mut self,
        inputs: Vec<NamedTensor>,
        wanted: &[String],
    ) -> Result<Vec<NamedTensor>, TaskError> {
        let path = self.session.path().to_owned();
        let failed = |source| OnnxError::Run { path: path.clone(), source };
        let shapes: Vec<_> = inputs.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        let mut values = Vec::with_capacity(inputs.len());
        for NamedTensor { name, shape, elements } in inputs {
            let value = value(&name, shape, elements, failed)?;
            values.push((name, value));
        }
        let disagree = sizes_disagree(self.session.ort().inputs(), &shapes);
        let answered = |answers: &mut SessionOutputs<'_>| {
            let mut one = |name: &String| {
                let answer = answers.remove(name).and_then(|value| tensor(name, &value));
                answer.ok_or_else(|| OnnxError::Unfit {
                    path: path.clone(),
                    problem: format!("has no tensor of a known type in its output {name}"),
                })
            };
            wanted.iter().map(&mut one).collect::<Result<_, _>>()
        };
        let tensors: Result<_, OnnxError> = self.session.run(&values, answered).map_err(|source| {
            if source.code() != ErrorCode::InvalidArgument && !disagree {
                return TaskError::from(failed(source));
            }
            // Its own words name places in its source.
            tracing::info!(model = %path.display(), reason = %source, "inputs do not go together");
            let shapes: Vec<_> = shapes.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
            TaskError::Refused(format!(
                "the graph does not take inputs of these sizes together: {}",
                shapes.join(", ")
            ))
        })?;
        Ok(tensors?)
    }
}

fn port(outlet: &Outlet) -> Port {
    let (datatype, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (Datatype::of(*ty), shape.to_vec()),
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => (None, Vec::new()),
    };
    Port { name: outlet.name().to_owned(), datatype, shape }
}

/// Whether a dimension that the graph calls by one name has several sizes. Graphs are often wrong in these
/// names, so it explains a failure and is no reason for one.
fn sizes_disagree(inputs: &[Outlet], given: &[(String, Vec<i64>)]) -> bool {
    let mut sizes = BTreeMap::new();
    given.iter().any(|(name, shape)| {
        let dtype = inputs.iter().find(|input| input.name() == name).map(Outlet::dtype);
        let Some(ValueType::Tensor { dimension_symbols, .. }) = dtype else { return false };
        let mut named = dimension_symbols.iter().zip(shape).filter(|(symbol, _)| !symbol.is_empty());
        named.any(|(symbol, size)| sizes.insert(symbol.clone(), *size).is_some_and(|other| other != *size))
    })
}

/// A value of ONNX Runtime, which takes over the elements as they are; texts it copies.
fn value(
    name: &str,
    shape: Vec<i64>,
    elements: Elements,
    failed: impl Fn(ort::Error) -> OnnxError,
) -> Result<DynValue, TaskError> {
    macro_rules! numbers {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match elements {
                $(Elements::$variant(values) => {
                    Tensor::from_array((shape, values)).map_err(failed)?.into_dyn()
                })+
                Elements::Bytes(values) => {
                    let texts = texts(name, values)?;
                    Tensor::from_string_array((shape, &texts[..])).map_err(failed)?.into_dyn()
                }
            }
        };
    }
    Ok(each_number!(numbers))
}

/// ONNX has texts where the protocol has bytes, and ONNX Runtime ends them at the first zero byte.
fn texts(name: &str, values: Vec<Bytes>) -> Result<Vec<String>, TaskError> {
    let one = |(at, value): (usize, Bytes)| {
        let refused = |problem| TaskError::Refused(format!("input {name:?}: value {at} {problem}"));
        match String::from_utf8(value.into()) {
            Err(_) => Err(refused("is not UTF-8, which texts of an ONNX graph must be")),
            Ok(text) if text.contains('\0') => {
                Err(refused("has a zero byte in it, which texts of an ONNX graph cannot have"))
            }
            Ok(text) => Ok(text),
        }
    };
    values.into_iter().enumerate().map(one).collect()
}

fn tensor(name: &str, value: &DynValue) -> Option<NamedTensor> {
    let ValueType::Tensor { ty, .. } = value.dtype() else { return None };
    macro_rules! numbers {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match Datatype::of(*ty)? {
                $(Datatype::$variant => {
                    let (shape, values) = value.try_extract_tensor::<$number>().ok()?;
                    (shape.to_vec(), Elements::$variant(values.to_vec()))
                })+
                Datatype::Bytes => {
                    let (shape, values) = value.try_extract_strings().ok()?;
                    (shape.to_vec(), Elements::Bytes(values.into_iter().map(Bytes::from).collect()))
                }
            }
        };
    }
    let (shape, elements) = each_number!(numbers);
    Some(NamedTensor { name: name.to_owned(), shape, elements })
}
