//! A request: JSON, then the binary data of those tensors that say so (Triton, "Binary Tensor Data
//! Extension").
//!
//! [`parse`] understands a body by itself, [`fitted`] checks its tensors against a graph.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_contract::Parameters;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{binary, json, limits, parameters};
use crate::error::ApiError;
use crate::tasks::tensor::{Datatype, Elements, NamedTensor, Port};

/// A request whose JSON is understood and whose binary data is cut apart. Elements are read later.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the answer is to be told by.
    pub id: Option<String>,
    /// Those of its parameters that tasks know. The protocol lets a server ignore the others.
    pub parameters: Parameters,
    /// Its tensors, in their order.
    pub inputs: Vec<Given<'a>>,
    /// The outputs that are asked for; all when there is none.
    pub outputs: Vec<Wanted>,
    /// Whether outputs are binary that do not say so for themselves.
    pub is_binary: bool,
}

/// A tensor of a request, with its elements as they were sent.
#[derive(Debug)]
pub struct Given<'a> {
    /// Its name.
    pub name: String,
    /// Its dimensions, none negative.
    pub shape: Vec<i64>,
    /// Its element type.
    pub datatype: Datatype,
    /// Its number of elements: the product of its dimensions.
    pub count: usize,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    Json(&'a RawValue),
    Binary(Bytes),
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Whether it is sent as bytes after the JSON.
    pub is_binary: bool,
    /// Its greatest values and where they are, so many of them, instead of the tensor.
    pub classes: Option<usize>,
}

/// The JSON of a request.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InferRequest")]
pub(crate) struct Body<'a> {
    id: Option<String>,
    #[serde(borrow)]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    parameters: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InferRequestInput")]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: Datatype,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    #[schemars(with = "Option<Vec<serde_json::Value>>")]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "InferRequestInputParameters")]
struct InputParameters {
    binary_data_size: Option<usize>,
    #[schemars(skip)]
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InferRequestOutput")]
struct Output {
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "InferRequestOutputParameters")]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<u32>,
    #[schemars(skip)]
    shared_memory_region: Option<IgnoredAny>,
}

/// Understands a body. `json_length` is what the header `Inference-Header-Content-Length` says; without
/// it all of the body is JSON.
///
/// # Errors
/// 400 that names the field or the tensor, with what it is and what it should be; 413 for a tensor beyond
/// the [`limits`].
pub fn parse(body: &Bytes, json_length: Option<usize>) -> Result<Request<'_>, ApiError> {
    let length = json_length.unwrap_or(body.len());
    let Some(text) = body.get(..length) else {
        return refused(format!(
            "Inference-Header-Content-Length is {length}, but the body has {} bytes",
            body.len()
        ));
    };
    let Body { id, parameters, inputs, outputs } = understood(text)?;
    if id.as_ref().is_some_and(|id| id.len() > limits::ID) {
        return too_large(format!(
            "field \"id\" has {} bytes, the most is {}; shorten it",
            id.map_or(0, |id| id.len()),
            limits::ID
        ));
    }
    let outputs = outputs.unwrap_or_default();
    for (name, length) in [("inputs", inputs.len()), ("outputs", outputs.len())] {
        if length > limits::TENSORS {
            return too_large(format!(
                "field {name:?} has {length} tensors, the most is {}; send them in several requests",
                limits::TENSORS
            ));
        }
    }
    let parameters = parameters.unwrap_or_default();
    let is_binary = parameters::one(&parameters, "binary_data_output")?.unwrap_or_default();
    let mut rest = body.slice(length..);
    let inputs = inputs.into_iter().map(|input| given(input, &mut rest, json_length.is_some()));
    let inputs = inputs.collect::<Result<_, _>>()?;
    if !rest.is_empty() {
        return refused(format!(
            "the body has {} bytes more than its JSON and the \"binary_data_size\" of its inputs",
            rest.len()
        ));
    }
    Ok(Request {
        id,
        parameters: parameters::of_task(&parameters)?,
        inputs,
        outputs: outputs.into_iter().map(|output| wanted(output, is_binary)).collect::<Result<_, _>>()?,
        is_binary,
    })
}

fn refused<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::bad_request(message))
}

fn too_large<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::too_large(message))
}

fn understood<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        ApiError::bad_request(match error.classify() {
            serde_json::error::Category::Data if path != "." => format!("field {path:?}: {error}"),
            serde_json::error::Category::Data => format!("the JSON body is no request: {error}"),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => format!("the body is not JSON: {error}"),
        })
    })?;
    deserializer.end().map_err(|error| {
        ApiError::bad_request(format!(
            "{error} after the JSON; binary data needs the header Inference-Header-Content-Length"
        ))
    })?;
    Ok(value)
}

fn given<'a>(input: Input<'a>, rest: &mut Bytes, has_length: bool) -> Result<Given<'a>, ApiError> {
    let Input { name, shape, datatype, parameters, data } = input;
    let refuse = |problem: &str| refused(format!("input {name:?}: {problem}"));
    let InputParameters { binary_data_size, shared_memory_region } = parameters.unwrap_or_default();
    if shared_memory_region.is_some() {
        return refuse("there is no shared memory here; send \"data\" or binary data");
    }
    let count = match elements(&shape, datatype) {
        Ok(count) => count,
        Err(Sizes::Wrong(problem)) => return refuse(&problem),
        Err(Sizes::TooLarge(problem)) => {
            return too_large(format!("input {name:?}: {problem}"));
        }
    };
    let data = match (data, binary_data_size) {
        (Some(_), Some(1..)) => return refuse("has both \"data\" and \"binary_data_size\"; send one"),
        (Some(data), _) => Data::Json(data),
        (None, Some(size @ 1..)) if !has_length => {
            return refuse(&format!(
                "\"binary_data_size\" is {size}, but the header Inference-Header-Content-Length is missing"
            ));
        }
        (None, Some(size)) if size > rest.len() => {
            return refuse(&format!(
                "\"binary_data_size\" is {size}, but {} bytes are left of the body",
                rest.len()
            ));
        }
        (None, Some(size)) => Data::Binary(rest.split_to(size)),
        (None, None) => return refuse("has neither \"data\" nor the parameter \"binary_data_size\""),
    };
    Ok(Given { name, shape, datatype, count, data })
}

enum Sizes {
    Wrong(String),
    TooLarge(String),
}

/// The product of the dimensions.
fn elements(shape: &[i64], datatype: Datatype) -> Result<usize, Sizes> {
    if shape.len() > limits::DIMENSIONS {
        return Err(Sizes::TooLarge(format!(
            "shape has {} dimensions, the most is {}; have fewer of them",
            shape.len(),
            limits::DIMENSIONS
        )));
    }
    if shape.iter().any(|size| *size < 0) {
        return Err(Sizes::Wrong(format!("shape is {shape:?}, but dimensions are 0 or more")));
    }
    let most = if datatype == Datatype::Bytes { limits::TEXTS } else { limits::ELEMENTS };
    // Each dimension for itself as well: a 0 among them makes any product 0.
    let fits = |size: &i64| usize::try_from(*size).ok().filter(|size| *size <= most);
    let product = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(fits(size)?));
    let too_large = || {
        Sizes::TooLarge(format!(
            "shape {shape:?} is more than {most} elements of {datatype}; send them in several requests"
        ))
    };
    product.filter(|product| *product <= most).ok_or_else(too_large)
}

fn wanted(output: Output, is_binary: bool) -> Result<Wanted, ApiError> {
    let Output { name, parameters } = output;
    let OutputParameters { binary_data, classification, shared_memory_region } =
        parameters.unwrap_or_default();
    if shared_memory_region.is_some() {
        return refused(format!("output {name:?}: there is no shared memory here; ask for binary data"));
    }
    let classes = match classification {
        None | Some(0) => None,
        Some(classes) if classes > limits::CLASSES => {
            let problem = format!("\"classification\" is {classes}, the most is {}", limits::CLASSES);
            return refused(format!("output {name:?}: {problem}"));
        }
        Some(classes) => usize::try_from(classes).ok(),
    };
    Ok(Wanted { name, is_binary: binary_data.unwrap_or(is_binary), classes })
}

impl Given<'_> {
    /// Whether the elements came as bytes.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        matches!(self.data, Data::Binary(_))
    }

    /// Reads the elements.
    ///
    /// # Errors
    /// 400 that names the tensor and what is wrong with its data.
    pub fn elements(&self) -> Result<Elements, ApiError> {
        let elements = match &self.data {
            Data::Json(data) => json::read(self.datatype, self.count, data),
            Data::Binary(data) => binary::read(self.datatype, self.count, data),
        };
        elements.map_err(|problem| ApiError::bad_request(format!("input {:?}: {problem}", self.name)))
    }

    fn fitting(self, port: &Port) -> Result<NamedTensor, ApiError> {
        let Self { name, shape, datatype, .. } = &self;
        if port.datatype != Some(*datatype) {
            let want =
                port.datatype.map_or_else(|| "a type that no request can have".to_owned(), |d| d.to_string());
            return refused(format!("input {name:?}: datatype is {datatype}, the model takes {want}"));
        }
        // A graph says [] for a scalar and for any shape alike; ONNX Runtime can tell them apart.
        let fits = port.shape.is_empty()
            || shape.len() == port.shape.len()
                && shape.iter().zip(&port.shape).all(|(have, want)| *want < 0 || have == want);
        if !fits {
            return refused(format!(
                "input {name:?}: shape is {shape:?}, the model takes {:?} (-1 is any size)",
                port.shape
            ));
        }
        let elements = self.elements()?;
        Ok(NamedTensor { name: self.name, shape: self.shape, elements })
    }
}

/// Checks tensors against a graph's inputs: each there once, with its type and shape.
///
/// # Errors
/// 400 that names the tensor, with what it is and what it should be.
pub fn fitted(given: Vec<Given<'_>>, inputs: &[Port]) -> Result<Vec<NamedTensor>, ApiError> {
    let mut tensors: Vec<NamedTensor> = Vec::with_capacity(given.len());
    for tensor in given {
        let Some(port) = inputs.iter().find(|p| p.name == tensor.name) else {
            let names: Vec<&str> = inputs.iter().map(|p| p.name.as_str()).collect();
            return refused(format!(
                "input {:?} is not the model's; it takes: {}",
                tensor.name,
                names.join(", ")
            ));
        };
        if tensors.iter().any(|t| t.name == tensor.name) {
            return refused(format!("input {:?} is there twice", tensor.name));
        }
        tensors.push(tensor.fitting(port)?);
    }
    match inputs.iter().find(|p| !tensors.iter().any(|t| t.name == p.name)) {
        Some(missing) => refused(format!(
            "input {:?} is missing; the model takes it with shape {:?}",
            missing.name, missing.shape
        )),
        None => Ok(tensors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(datatype: Datatype, shape: &[i64]) -> Port {
        Port { name: "x".to_owned(), datatype: Some(datatype), shape: shape.to_vec() }
    }

    fn tensors(body: &[u8], json_length: Option<usize>, ports: &[Port]) -> Result<Vec<NamedTensor>, String> {
        let body = Bytes::copy_from_slice(body);
        let request = parse(&body, json_length).map_err(|e| e.to_string())?;
        fitted(request.inputs, ports).map_err(|e| e.to_string())
    }

    /// A request with one tensor, and bytes after its JSON.
    fn one(tensor: &str, after: &[u8], port: &Port) -> Result<Elements, String> {
        let text = format!(r#"{{"inputs": [{tensor}]}}"#);
        let body = [text.as_bytes(), after].concat();
        let length = (!after.is_empty()).then_some(text.len());
        Ok(tensors(&body, length, std::slice::from_ref(port))?.remove(0).elements)
    }

    #[test]
    fn json_and_binary_tensors_go_together_in_the_order_of_the_inputs() {
        let json = br#"{"id": "7", "parameters": {"binary_data_output": true, "top_k": 2}, "inputs": [
            {"name": "a", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}},
            {"name": "b", "datatype": "BOOL", "shape": [], "data": [true]},
            {"name": "c", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 5, "x": 1}},
            {"name": "d", "datatype": "FP16", "shape": [0], "parameters": {"binary_data_size": 0}, "data": null}
        ], "outputs": [{"name": "y", "parameters": {"binary_data": false}}, {"name": "z"}]}"#;
        let body = Bytes::from([&json[..], &[1, 0, 2, 0], &[1, 0, 0, 0, 255]].concat());
        let request = parse(&body, Some(json.len())).unwrap();
        assert_eq!((request.id.as_deref(), request.parameters.top_k), (Some("7"), Some(2)));
        let elements: Vec<_> =
            request.inputs.iter().map(|i| (i.is_binary(), i.elements().unwrap())).collect();
        let expected = [
            (true, Elements::Int16(vec![1, 2])),
            (false, Elements::Bool(vec![true])),
            (true, Elements::Bytes(vec![Bytes::from_static(&[255])])),
            (true, Elements::Fp16(vec![])),
        ];
        assert_eq!(elements, expected);
        let wanted: Vec<_> = request.outputs.iter().map(|o| (o.name.as_str(), o.is_binary)).collect();
        assert_eq!(wanted, [("y", false), ("z", true)]);
    }

    #[test]
    fn refusals_name_the_tensor_with_have_and_want() {
        let check = |tensor: &str, after: &[u8], parts: &[&str]| {
            let refusal = one(tensor, after, &port(Datatype::Int64, &[-1, 2])).unwrap_err();
            for part in parts {
                assert!(refusal.contains(part), "{tensor}: {refusal}");
            }
        };
        let tensor = |name: &str, shape: &str, datatype: &str, rest: &str| {
            format!(r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", {rest}}}"#)
        };
        let json = |name: &str, shape: &str, datatype: &str, data: &str, parts: &[&str]| {
            check(&tensor(name, shape, datatype, &format!(r#""data": {data}"#)), &[], parts);
        };
        json("y", "[1, 2]", "INT64", "[1, 2]", &["400", "\"y\"", "takes: x"]);
        json("x", "[1, 2]", "FP32", "[1, 2]", &["400", "\"x\"", "is FP32", "takes INT64"]);
        json("x", "[2]", "INT64", "[1, 2]", &["is [2]", "takes [-1, 2]"]);
        json("x", "[1, 3]", "INT64", "[1, 2, 3]", &["is [1, 3]", "takes [-1, 2]"]);
        json("x", "[-1, 2]", "INT64", "[1, 2]", &["is [-1, 2]", "0 or more"]);
        json("x", "[2, 2]", "INT64", "[1, 2]", &["\"x\"", "data has 2 values", "needs 4"]);
        json("x", "[9223372036854775807, 2]", "INT64", "[1, 2]", &["413", "\"x\"", "9223372036854775807"]);
        json("x", "[0, 9223372036854775807]", "INT64", "[]", &["413"]);
        json("x", "[16777216, 2]", "INT64", "[]", &["413", "16777216 elements"]);
        json("x", "[1000000]", "BYTES", "[]", &["413", "262144 elements of BYTES"]);
        json("x", &format!("[{}1]", "1,".repeat(16)), "INT64", "[1]", &["413", "17 dimensions", "16"]);
        json("x", "[1, 2]", "INT64", r#"[1, "b"]"#, &["value 1", "a string", "no INT64"]);
        json("x", "[1, 2]", "FP17", "[1, 2]", &["inputs[0].datatype", "FP17"]);
        json("x", "[1, 2.5]", "INT64", "[1, 2]", &["inputs[0].shape[1]", "2.5"]);
        json("x", "[1, 2]", "INT64", "[1, null]", &["null"]);
        json("x", "[1, 2]", "INT64", "null", &["\"x\"", "neither"]);
        json("x", "[1, 2]", "INT64", "[1, 2", &["not JSON"]);

        let binary = |size: &str, after: &[u8], parts: &[&str]| {
            let parameters = format!(r#""parameters": {{"binary_data_size": {size}}}"#);
            check(&tensor("x", "[1, 2]", "INT64", &parameters), after, parts);
        };
        binary("16", &[], &["\"x\"", "16", "Inference-Header-Content-Length is missing"]);
        binary("16", &[0; 15], &["\"x\"", "is 16", "15 bytes are left"]);
        binary("8", &[0; 8], &["\"x\"", "has 8 bytes", "2 elements of INT64"]);
        binary("16", &[0; 17], &["1 bytes more"]);
        binary("-1", &[0; 17], &["inputs[0].parameters.binary_data_size", "-1"]);
        let both = r#""data": [1, 2], "parameters": {"binary_data_size": 16}"#;
        check(&tensor("x", "[1, 2]", "INT64", both), &[0; 16], &["\"x\"", "both"]);
        let shared = r#""parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}"#;
        check(&tensor("x", "[1, 2]", "INT64", shared), &[], &["\"x\"", "shared memory"]);
    }

    #[test]
    fn bodies_that_are_no_request_are_told_why() {
        let check = |body: &str, length: Option<usize>, parts: &[&str]| {
            let ports = [port(Datatype::Int64, &[1])];
            let refusal = tensors(body.as_bytes(), length, &ports).unwrap_err();
            for part in parts {
                assert!(refusal.contains(part), "{body}: {refusal}");
            }
        };
        check("", None, &["400", "not JSON"]);
        check("[", None, &["not JSON"]);
        check("[]", None, &["no request"]);
        check("{}", None, &["inputs"]);
        check(r#"{"inputs": 3}"#, None, &["\"inputs\"", "3"]);
        check(r#"{"inputs": []}"#, None, &["\"x\" is missing"]);
        check(r#"{"inputs": []} {}"#, None, &["Inference-Header-Content-Length"]);
        check(r#"{"inputs": []}"#, Some(99), &["is 99", "has 14 bytes"]);
        check(r#"{"inputs": []}"#, Some(13), &["not JSON"]);
        check(r#"{"inputs": [], "parameters": {"top_k": "a"}}"#, None, &["top_k"]);
        check(r#"{"inputs": [], "parameters": {"binary_data_output": 1}}"#, None, &["binary_data_output"]);
        check(
            &format!(r#"{{"inputs": [], "id": "{}"}}"#, "i".repeat(1025)),
            None,
            &["413", "\"id\"", "1025", "1024"],
        );
        let output = |parameters: &str| {
            format!(r#"{{"inputs": [], "outputs": [{{"name": "y", "parameters": {parameters}}}]}}"#)
        };
        check(&output(r#"{"classification": 100001}"#), None, &["400", "\"y\"", "100001"]);
        check(&output(r#"{"shared_memory_region": "r"}"#), None, &["\"y\"", "shared memory"]);
        let input = r#"{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}"#;
        check(&format!(r#"{{"inputs": [{input}, {input}]}}"#), None, &["\"x\" is there twice"]);
        let many = vec![input; 257].join(",");
        check(&format!(r#"{{"inputs": [{many}]}}"#), None, &["413", "257", "256"]);
    }
}
