//! Tensors apart from any graph: element types, values, names and shapes.

use bytes::Bytes;
use ort::value::TensorElementType;

/// Calls `$do!` with each type whose elements all have one size: its name here, in Rust and in ONNX Runtime.
macro_rules! each_number {
    ($do:ident) => {
        $do! {
            Bool: bool = Bool, Uint8: u8 = Uint8, Uint16: u16 = Uint16, Uint32: u32 = Uint32,
            Uint64: u64 = Uint64, Int8: i8 = Int8, Int16: i16 = Int16, Int32: i32 = Int32, Int64: i64 = Int64,
            Fp16: half::f16 = Float16, Bf16: half::bf16 = Bfloat16, Fp32: f32 = Float32,
            Fp64: f64 = Float64
        }
    };
}
pub(crate) use each_number;

macro_rules! types {
    ($($variant:ident: $number:ty = $element:ident),+) => {
        /// The values of a tensor, row by row.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "each is named after its datatype")]
        pub enum Elements {
            $($variant(Vec<$number>),)+
            /// Texts of a graph, or any bytes where a task takes them.
            Bytes(Vec<Bytes>),
        }

        impl Elements {
            /// How many there are.
            #[must_use]
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len(),)+ Self::Bytes(v) => v.len() }
            }

            /// Their type.
            #[must_use]
            pub fn datatype(&self) -> Datatype {
                match self { $(Self::$variant(_) => Datatype::$variant,)+ Self::Bytes(_) => Datatype::Bytes }
            }
        }

        /// Element types, as the Open Inference Protocol names them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "UPPERCASE")]
        #[expect(missing_docs, reason = "the names are the protocol's")]
        pub enum Datatype { $($variant,)+ Bytes }

        impl Datatype {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+ Self::Bytes];

            /// The bytes that an element takes; `None` for BYTES, whose elements differ.
            #[must_use]
            pub const fn size(self) -> Option<usize> {
                match self { $(Self::$variant => Some(size_of::<$number>()),)+ Self::Bytes => None }
            }

            pub(super) fn of(element: TensorElementType) -> Option<Self> {
                match element {
                    $(TensorElementType::$element => Some(Self::$variant),)+
                    TensorElementType::String => Some(Self::Bytes),
                    _ => None,
                }
            }
        }
    };
}
each_number!(types);

impl Elements {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format!("{self:?}").to_uppercase())
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
