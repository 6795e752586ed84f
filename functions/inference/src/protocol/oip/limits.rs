//! The most of everything that a request may have. The body's own limit comes first for most of them;
//! these hold whatever that is.

/// Tensors in a request, and outputs that are asked for. Decoders with their caches have about a hundred.
pub const TENSORS: usize = 256;

/// Dimensions of a tensor. ONNX graphs have a handful.
pub const DIMENSIONS: usize = 16;

/// Elements of a tensor, and each of its dimensions.
pub const ELEMENTS: usize = 1 << 24;

/// Elements of a BYTES tensor. Each is a value of its own in memory, even an empty one.
pub const TEXTS: usize = 1 << 18;

/// Bytes of a request's id, which every answer repeats.
pub const ID: usize = 1024;

/// Classes that are asked for with the classification extension.
pub const CLASSES: u32 = 100_000;
