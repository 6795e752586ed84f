//! Tensors as JSON: parsing in either of the protocol's forms (flat or nested lists), and checking
//! against what the model takes.

use std::fmt;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::tasks::tensor::{Datatype, Elements, NamedTensor, Port};

/// Lists nested deeper than this are refused; ONNX tensors have a handful of dimensions.
const DEEPEST: usize = 16;

/// A tensor of a request.
#[derive(Debug, Deserialize)]
pub struct JsonTensor {
    name: String,
    shape: Vec<i64>,
    datatype: Datatype,
    #[serde(default, rename = "parameters")]
    _parameters: Map<String, Value>,
    data: Flat,
}

/// JSON values in row-major order, whatever lists they came in.
#[derive(Debug, Default)]
struct Flat(Vec<Scalar>);

#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Natural(u64),
    Real(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Self::default();
        deserializer.deserialize_seq(Items { into: &mut flat.0, depth: 0 })?;
        Ok(flat)
    }
}

/// Adds one JSON value, or a list's values, to a list.
struct Items<'a> {
    into: &'a mut Vec<Scalar>,
    depth: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for Items<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a boolean, a string, or a list of them")
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.into.push(Scalar::Bool(v));
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.into.push(Scalar::Integer(v));
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.into.push(Scalar::Natural(v));
        Ok(())
    }
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.into.push(Scalar::Real(v));
        Ok(())
    }
    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.into.push(Scalar::Text(v.to_owned()));
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == DEEPEST {
            return Err(A::Error::custom("lists are nested too deeply"));
        }
        while seq.next_element_seed(Items { into: self.into, depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }
}

/// Checks a request's tensors against the model's inputs: each there once, with its type and shape.
///
/// # Errors
/// 400 that names the tensor, with what it is and what it should be.
pub fn checked(given: Vec<JsonTensor>, inputs: &[Port]) -> Result<Vec<NamedTensor>, ApiError> {
    let mut tensors: Vec<NamedTensor> = Vec::with_capacity(given.len());
    for tensor in given {
        let Some(port) = inputs.iter().find(|p| p.name == tensor.name) else {
            let names: Vec<&str> = inputs.iter().map(|p| p.name.as_str()).collect();
            let message =
                format!("input {:?} is not the model's; it takes: {}", tensor.name, names.join(", "));
            return Err(ApiError::bad_request(message));
        };
        if tensors.iter().any(|t| t.name == tensor.name) {
            return Err(ApiError::bad_request(format!("input {:?} is there twice", tensor.name)));
        }
        tensors.push(tensor.fitting(port)?);
    }
    match inputs.iter().find(|p| !tensors.iter().any(|t| t.name == p.name)) {
        Some(missing) => Err(ApiError::bad_request(format!(
            "input {:?} is missing; the model takes it with shape {:?}",
            missing.name, missing.shape
        ))),
        None => Ok(tensors),
    }
}

impl JsonTensor {
    fn fitting(self, port: &Port) -> Result<NamedTensor, ApiError> {
        let name = &self.name;
        let refuse = |problem: String| Err(ApiError::bad_request(format!("input {name:?}: {problem}")));
        if port.datatype != Some(self.datatype) {
            let want = port
                .datatype
                .map_or_else(|| "a type that JSON tensors cannot have".to_owned(), |d| d.to_string());
            return refuse(format!("datatype is {}, the model takes {want}", self.datatype));
        }
        let fits = self.shape.len() == port.shape.len()
            && self
                .shape
                .iter()
                .zip(&port.shape)
                .all(|(&have, &want)| have >= 0 && (want < 0 || have == want));
        if !fits {
            return refuse(format!(
                "shape is {:?}, the model takes {:?} (-1 is any size)",
                self.shape, port.shape
            ));
        }
        let count = self.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        let values = self.data.0;
        if count != Some(values.len()) {
            return refuse(format!(
                "data has {} values, shape {:?} needs another number",
                values.len(),
                self.shape
            ));
        }
        match elements(self.datatype, &values) {
            Ok(elements) => Ok(NamedTensor { name: self.name, shape: self.shape, elements }),
            Err(at) => refuse(format!("value {at} of data is {}, which is no {}", values[at], self.datatype)),
        }
    }
}

/// Values as elements of a type, or the position of the first that is none.
fn elements(datatype: Datatype, values: &[Scalar]) -> Result<Elements, usize> {
    fn all<T>(values: &[Scalar], one: impl Fn(&Scalar) -> Option<T>) -> Result<Vec<T>, usize> {
        values.iter().enumerate().map(|(at, value)| one(value).ok_or(at)).collect()
    }
    fn whole<T: TryFrom<i64> + TryFrom<u64>>(value: &Scalar) -> Option<T> {
        match value {
            Scalar::Integer(v) => T::try_from(*v).ok(),
            Scalar::Natural(v) => T::try_from(*v).ok(),
            Scalar::Bool(_) | Scalar::Real(_) | Scalar::Text(_) => None,
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a float cannot hold more")]
    fn real(value: &Scalar) -> Option<f64> {
        match value {
            Scalar::Integer(v) => Some(*v as f64),
            Scalar::Natural(v) => Some(*v as f64),
            Scalar::Real(v) => Some(*v),
            Scalar::Bool(_) | Scalar::Text(_) => None,
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what was asked for")]
    let single = |value: &Scalar| real(value).map(|v| v as f32).filter(|v| v.is_finite());
    Ok(match datatype {
        Datatype::Bool => Elements::Bool(all(values, |v| match v {
            Scalar::Bool(b) => Some(*b),
            Scalar::Integer(_) | Scalar::Natural(_) | Scalar::Real(_) | Scalar::Text(_) => None,
        })?),
        Datatype::Uint8 => Elements::Uint8(all(values, whole)?),
        Datatype::Uint16 => Elements::Uint16(all(values, whole)?),
        Datatype::Uint32 => Elements::Uint32(all(values, whole)?),
        Datatype::Uint64 => Elements::Uint64(all(values, whole)?),
        Datatype::Int8 => Elements::Int8(all(values, whole)?),
        Datatype::Int16 => Elements::Int16(all(values, whole)?),
        Datatype::Int32 => Elements::Int32(all(values, whole)?),
        Datatype::Int64 => Elements::Int64(all(values, whole)?),
        Datatype::Fp32 => Elements::Fp32(all(values, single)?),
        Datatype::Fp64 => Elements::Fp64(all(values, real)?),
        Datatype::Bytes => Elements::Bytes(all(values, |v| match v {
            Scalar::Text(t) => Some(t.clone()),
            Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Natural(_) | Scalar::Real(_) => None,
        })?),
    })
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::Integer(v) => v.fmt(f),
            Self::Natural(v) => v.fmt(f),
            Self::Real(v) => v.fmt(f),
            Self::Text(_) => f.write_str("a string"),
        }
    }
}

/// A tensor of an answer: a flat list, `null` where a float is not finite, for JSON has no word for it.
#[derive(Debug)]
pub struct AnswerTensor(NamedTensor);

impl From<NamedTensor> for AnswerTensor {
    fn from(tensor: NamedTensor) -> Self {
        Self(tensor)
    }
}

impl Serialize for AnswerTensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NamedTensor { name, shape, elements } = &self.0;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("shape", shape)?;
        macro_rules! written {
            ($($variant:ident),+) => {
                match elements { $(Elements::$variant(values) => {
                    map.serialize_entry("datatype", &Datatype::$variant)?;
                    map.serialize_entry("data", values)?;
                })+ }
            };
        }
        written!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp32, Fp64, Bytes);
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(datatype: Datatype, shape: &[i64]) -> Port {
        Port { name: "x".to_owned(), datatype: Some(datatype), shape: shape.to_vec() }
    }

    fn parse(json: &str, port: &Port) -> Result<Elements, String> {
        let given = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let mut tensors = checked(vec![given], std::slice::from_ref(port)).map_err(|e| e.message)?;
        Ok(tensors.remove(0).elements)
    }

    #[test]
    fn flat_and_nested_data_are_the_same() {
        let expected = Ok(Elements::Fp32(vec![1.0, 2.5, -3.0, 4.0]));
        let fp32 = port(Datatype::Fp32, &[-1, 2]);
        for data in ["[1, 2.5, -3, 4]", "[[1, 2.5], [-3, 4]]"] {
            let json = format!(r#"{{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": {data}}}"#);
            assert_eq!(parse(&json, &fp32), expected);
        }
    }

    #[test]
    fn every_type_keeps_its_range() {
        let check = |datatype: Datatype, data: &str, expected: Option<Elements>| {
            let json =
                format!(r#"{{"name": "x", "shape": [1], "datatype": "{datatype}", "data": [{data}]}}"#);
            assert_eq!(parse(&json, &port(datatype, &[1])).ok(), expected, "{datatype} {data}");
        };
        check(Datatype::Uint8, "255", Some(Elements::Uint8(vec![255])));
        check(Datatype::Uint8, "256", None);
        check(Datatype::Uint16, "-1", None);
        check(Datatype::Uint32, "4294967295", Some(Elements::Uint32(vec![u32::MAX])));
        check(Datatype::Uint64, "18446744073709551615", Some(Elements::Uint64(vec![u64::MAX])));
        check(Datatype::Int8, "-128", Some(Elements::Int8(vec![-128])));
        check(Datatype::Int16, "32768", None);
        check(Datatype::Int32, "1.5", None);
        check(Datatype::Int64, "-9223372036854775808", Some(Elements::Int64(vec![i64::MIN])));
        check(Datatype::Fp32, "1e39", None);
        check(Datatype::Fp64, "1e39", Some(Elements::Fp64(vec![1e39])));
        check(Datatype::Bool, "true", Some(Elements::Bool(vec![true])));
        check(Datatype::Bool, "1", None);
        check(Datatype::Bytes, r#""a""#, Some(Elements::Bytes(vec!["a".to_owned()])));
        check(Datatype::Bytes, "1", None);
    }

    #[test]
    fn refusals_name_the_tensor_with_have_and_want() {
        let check = |json: &str, parts: &[&str]| {
            let refusal = parse(json, &port(Datatype::Int64, &[-1, 2])).unwrap_err();
            for part in parts {
                assert!(refusal.contains(part), "{refusal}");
            }
        };
        let tensor = |name: &str, shape: &str, datatype: &str, data: &str| {
            format!(r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}"#)
        };
        check(&tensor("y", "[1, 2]", "INT64", "[1, 2]"), &["\"y\"", "takes: x"]);
        check(&tensor("x", "[1, 2]", "FP32", "[1, 2]"), &["\"x\"", "is FP32", "takes INT64"]);
        check(&tensor("x", "[2]", "INT64", "[1, 2]"), &["is [2]", "takes [-1, 2]"]);
        check(&tensor("x", "[1, 3]", "INT64", "[1, 2, 3]"), &["is [1, 3]", "takes [-1, 2]"]);
        check(&tensor("x", "[-1, 2]", "INT64", "[1, 2]"), &["is [-1, 2]"]);
        check(&tensor("x", "[2, 2]", "INT64", "[1, 2]"), &["data has 2 values", "[2, 2]"]);
        check(&tensor("x", "[9223372036854775807, 2]", "INT64", "[1, 2]"), &["data has 2 values"]);
        check(&tensor("x", "[1, 2]", "INT64", r#"[1, "b"]"#), &["value 1", "a string", "no INT64"]);
        check(&tensor("x", "[1, 2]", "FP17", "[1, 2]"), &["FP17"]);
        check(&tensor("x", "[1, 2]", "INT64", "[1, null]"), &["null"]);
        assert!(
            checked(vec![], &[port(Datatype::Int64, &[1])]).unwrap_err().message.contains("\"x\" is missing")
        );
    }

    #[test]
    fn answers_are_flat_lists() {
        let answer = |elements| {
            let tensor = NamedTensor { name: "y".to_owned(), shape: vec![2], elements };
            serde_json::to_string(&AnswerTensor(tensor)).unwrap()
        };
        assert_eq!(
            answer(Elements::Fp32(vec![0.1, f32::NAN])),
            r#"{"name":"y","shape":[2],"datatype":"FP32","data":[0.1,null]}"#
        );
        assert_eq!(
            answer(Elements::Bytes(vec!["a".to_owned(), "港".to_owned()])),
            r#"{"name":"y","shape":[2],"datatype":"BYTES","data":["a","港"]}"#
        );
    }
}
