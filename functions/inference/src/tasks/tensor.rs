//! Tensors in, tensors out: any ONNX graph.

use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};

use crate::onnx::{OnnxError, Session};

/// The values of a tensor, row by row.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is named after its datatype")]
pub enum Elements {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<String>),
}

/// Calls `$do!` with each numeric variant of [`Elements`] and its element type of ONNX Runtime.
macro_rules! each_number {
    ($do:ident) => {
        $do! {
            Bool = Bool, Uint8 = Uint8, Uint16 = Uint16, Uint32 = Uint32, Uint64 = Uint64, Int8 = Int8,
            Int16 = Int16, Int32 = Int32, Int64 = Int64, Fp32 = Float32, Fp64 = Float64
        }
    };
}

impl Elements {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        macro_rules! len {
            ($($variant:ident = $element:ident),+) => {
                match self { $(Self::$variant(v) => v.len(),)+ Self::Bytes(v) => v.len() }
            };
        }
        each_number!(len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name in the graph.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// Its values; as many as the dimensions' product.
    pub elements: Elements,
}

/// What a graph takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
}

/// What a graph says about one of its inputs or outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Its element type; `None` for types that have no tensor form here.
    pub datatype: Option<Datatype>,
    /// Its dimensions, −1 where any size will do.
    pub shape: Vec<i64>,
}

/// Element types, as the Open Inference Protocol names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    fn of(element: TensorElementType) -> Option<Self> {
        macro_rules! datatype {
            ($($variant:ident = $element:ident),+) => {
                match element {
                    $(TensorElementType::$element => Some(Self::$variant),)+
                    TensorElementType::String => Some(Self::Bytes),
                    _ => None,
                }
            };
        }
        each_number!(datatype)
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format!("{self:?}").to_uppercase())
    }
}

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
    /// [`OnnxError::Run`] when the graph refuses the sizes or fails; [`OnnxError::Unfit`] when an output
    /// has no form in the protocol.
    pub fn run(
        &mut self,
        inputs: Vec<NamedTensor>,
        wanted: &[String],
    ) -> Result<Vec<NamedTensor>, OnnxError> {
        let path = self.session.path().to_owned();
        let failed = |source| OnnxError::Run { path: path.clone(), source };
        let inputs = inputs
            .into_iter()
            .map(|t| Ok((t.name, SessionInputValue::from(value(t.shape, t.elements)?))))
            .collect::<Result<Vec<_>, ort::Error>>()
            .map_err(failed)?;
        let selection = wanted.iter().fold(OutputSelector::no_default(), OutputSelector::with);
        let options = RunOptions::new().map_err(failed)?.with_outputs(selection);
        let mut answers = self.session.ort_mut().run_with_options(inputs, &options).map_err(failed)?;
        let mut tensors = Vec::with_capacity(wanted.len());
        for name in wanted {
            let answer = answers.remove(name).and_then(|value| tensor(name, &value));
            tensors.push(answer.ok_or_else(|| OnnxError::Unfit {
                path: path.clone(),
                problem: format!("has no tensor in its output {name} that can be written as JSON"),
            })?);
        }
        Ok(tensors)
    }
}

fn port(outlet: &Outlet) -> Port {
    let (datatype, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (Datatype::of(*ty), shape.to_vec()),
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => (None, Vec::new()),
    };
    Port { name: outlet.name().to_owned(), datatype, shape }
}

fn value(shape: Vec<i64>, elements: Elements) -> Result<DynValue, ort::Error> {
    macro_rules! numbers {
        ($($variant:ident = $element:ident),+) => {
            match elements {
                $(Elements::$variant(values) => Tensor::from_array((shape, values))?.into_dyn(),)+
                Elements::Bytes(values) => Tensor::from_string_array((shape, &values[..]))?.into_dyn(),
            }
        };
    }
    Ok(each_number!(numbers))
}

fn tensor(name: &str, value: &DynValue) -> Option<NamedTensor> {
    let ValueType::Tensor { ty, .. } = value.dtype() else { return None };
    macro_rules! numbers {
        ($($variant:ident = $element:ident),+) => {
            match Datatype::of(*ty)? {
                $(Datatype::$variant => {
                    let (shape, values) = value.try_extract_tensor().ok()?;
                    (shape.to_vec(), Elements::$variant(values.to_vec()))
                })+
                Datatype::Bytes => {
                    let (shape, values) = value.try_extract_strings().ok()?;
                    (shape.to_vec(), Elements::Bytes(values))
                }
            }
        };
    }
    let (shape, elements) = each_number!(numbers);
    Some(NamedTensor { name: name.to_owned(), shape, elements })
}
