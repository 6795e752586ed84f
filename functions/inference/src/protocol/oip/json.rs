//! Tensors as JSON: lists, flat or nested as the shape is, read straight into the buffer that the graph
//! will work on.
//!
//! FP16 and BF16 have no form here, as in Triton and `KServe`. A float that is no number is `null`: JSON
//! has no word for it, and clients read `null` as NaN.

use bytes::Bytes;
use half::{bf16, f16};
use serde::ser::{Error as _, SerializeSeq as _, Serializer};
use serde_json::value::RawValue;

use super::limits::DIMENSIONS;
use crate::tasks::tensor::{Datatype, Elements, each_number};

/// Whether values of this type can be written as JSON.
#[must_use]
pub fn has_form(datatype: Datatype) -> bool {
    !matches!(datatype, Datatype::Fp16 | Datatype::Bf16)
}

/// Reads `count` elements.
///
/// # Errors
/// What is wrong with the data, and at which value.
pub fn read(datatype: Datatype, count: usize, data: &RawValue) -> Result<Elements, String> {
    if !has_form(datatype) {
        return Err(format!("{datatype} has no form in JSON; send it as binary data"));
    }
    macro_rules! elements {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match datatype {
                $(Datatype::$variant => Elements::$variant(list(datatype, count, data.get())?),)+
                Datatype::Bytes => Elements::Bytes(list(datatype, count, data.get())?),
            }
        };
    }
    Ok(each_number!(elements))
}

/// Takes the values out of JSON that is known to be well formed, so brackets and commas only set them
/// apart. Each is read by Rust's own parser, for `serde_json`'s can miss a float by its last bit.
fn list<T: Scalar>(datatype: Datatype, count: usize, text: &str) -> Result<Vec<T>, String> {
    // An element takes two characters at least: itself and a comma or a bracket.
    let mut values = Vec::with_capacity(count.min(text.len() / 2));
    let mut depth = 0_usize;
    let mut rest = text.trim_ascii();
    if !rest.starts_with('[') {
        return Err("data is no list".to_owned());
    }
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'[' if depth == DIMENSIONS => return Err("data has lists that are nested too deeply".to_owned()),
            b'[' => {
                depth += 1;
                1
            }
            b']' => {
                depth = depth.saturating_sub(1);
                1
            }
            b',' | b' ' | b'\n' | b'\r' | b'\t' => 1,
            b'{' => return Err(format!("value {} of data is an object", values.len())),
            b'"' => string(rest),
            _ => rest.find([',', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        if length > 1 || first.is_ascii_digit() {
            let at = values.len();
            if at == count {
                return Err(format!("data has more values than the {count} that its shape needs"));
            }
            values.push(
                T::read(token).ok_or_else(|| {
                    format!("value {at} of data is {}, which is no {datatype}", shown(token))
                })?,
            );
        }
    }
    if values.len() == count {
        Ok(values)
    } else {
        Err(format!("data has {} values, its shape needs {count}", values.len()))
    }
}

/// The length of the string that the text begins with, quotes and all.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

fn shown(token: &str) -> &str {
    match token.as_bytes() {
        [b'"', ..] => "a string",
        [_, ..] if token.len() > 40 => "a number of many digits",
        _ => token,
    }
}

/// What a JSON value is as an element, if it is one.
trait Scalar: Sized {
    fn read(token: &str) -> Option<Self>;
}

impl Scalar for bool {
    fn read(token: &str) -> Option<Self> {
        token.parse().ok()
    }
}

impl Scalar for Bytes {
    fn read(token: &str) -> Option<Self> {
        let text = token.strip_prefix('"')?.strip_suffix('"')?;
        if text.contains('\\') {
            return serde_json::from_str(token).map(|text: String| Self::from(text)).ok();
        }
        Some(Self::copy_from_slice(text.as_bytes()))
    }
}

macro_rules! whole {
    ($($number:ty),+) => {
        $(impl Scalar for $number {
            fn read(token: &str) -> Option<Self> {
                token.parse().ok()
            }
        })+
    };
}
whole!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! real {
    ($($number:ty),+) => {
        $(impl Scalar for $number {
            fn read(token: &str) -> Option<Self> {
                if token == "null" {
                    return Some(Self::NAN);
                }
                token.parse().ok().filter(|value: &Self| value.is_finite())
            }
        })+
    };
}
real!(f32, f64);

macro_rules! none {
    ($($number:ty),+) => {
        $(impl Scalar for $number {
            // Never called, for they have no form here.
            fn read(_: &str) -> Option<Self> {
                None
            }
        })+
    };
}
none!(f16, bf16);

/// Writes elements as a flat list.
///
/// # Errors
/// For types without a form in JSON, and bytes that are no text.
pub fn write<S: Serializer>(elements: &Elements, serializer: S) -> Result<S::Ok, S::Error> {
    match elements {
        Elements::Bool(values) => serializer.collect_seq(values),
        Elements::Uint8(values) => serializer.collect_seq(values),
        Elements::Uint16(values) => serializer.collect_seq(values),
        Elements::Uint32(values) => serializer.collect_seq(values),
        Elements::Uint64(values) => serializer.collect_seq(values),
        Elements::Int8(values) => serializer.collect_seq(values),
        Elements::Int16(values) => serializer.collect_seq(values),
        Elements::Int32(values) => serializer.collect_seq(values),
        Elements::Int64(values) => serializer.collect_seq(values),
        Elements::Fp32(values) => serializer.collect_seq(values),
        Elements::Fp64(values) => serializer.collect_seq(values),
        Elements::Fp16(_) | Elements::Bf16(_) => {
            let datatype = elements.datatype();
            Err(S::Error::custom(format!("{datatype} has no form in JSON; ask for binary data")))
        }
        Elements::Bytes(values) => {
            let mut list = serializer.serialize_seq(Some(values.len()))?;
            for (at, value) in values.iter().enumerate() {
                let text = std::str::from_utf8(value)
                    .map_err(|_| S::Error::custom(format!("value {at} is not UTF-8; ask for binary data")))?;
                list.serialize_element(text)?;
            }
            list.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datatype: Datatype, count: usize, text: &str) -> Result<Elements, String> {
        super::read(datatype, count, serde_json::from_str(text).map_err(|_| "not JSON".to_owned())?)
    }

    fn one(datatype: Datatype, data: &str) -> Option<Elements> {
        read(datatype, 1, &format!("[{data}]")).ok()
    }

    #[test]
    fn flat_and_nested_data_are_the_same() {
        let expected = Ok(Elements::Fp32(vec![1.0, 2.5, -3.0, 4.0]));
        for data in ["[1, 2.5, -3, 4]", "[[1, 2.5], [-3, 4]]", " [[[1], [2.5]], [[-3], [4]]] "] {
            assert_eq!(read(Datatype::Fp32, 4, data), expected);
        }
        assert_eq!(read(Datatype::Fp32, 0, "[[], []]"), Ok(Elements::Fp32(vec![])));
    }

    #[test]
    fn every_type_keeps_its_range() {
        let check = |datatype, data: &str, expected| assert_eq!(one(datatype, data), expected, "{data}");
        check(Datatype::Uint8, "255", Some(Elements::Uint8(vec![255])));
        check(Datatype::Uint8, "256", None);
        check(Datatype::Uint16, "-1", None);
        check(Datatype::Uint32, "4294967295", Some(Elements::Uint32(vec![u32::MAX])));
        check(Datatype::Uint64, "18446744073709551615", Some(Elements::Uint64(vec![u64::MAX])));
        check(Datatype::Int8, "-128", Some(Elements::Int8(vec![-128])));
        check(Datatype::Int16, "32768", None);
        check(Datatype::Int32, "1.5", None);
        check(Datatype::Int64, "-9223372036854775808", Some(Elements::Int64(vec![i64::MIN])));
        check(Datatype::Int64, "null", None);
        check(Datatype::Fp32, "1e39", None);
        check(Datatype::Fp64, "1e39", Some(Elements::Fp64(vec![1e39])));
        check(Datatype::Fp64, "1e999", None);
        check(Datatype::Bool, "true", Some(Elements::Bool(vec![true])));
        check(Datatype::Bool, "1", None);
        check(Datatype::Bytes, r#""a""#, Some(Elements::Bytes(vec![Bytes::from_static(b"a")])));
        let escaped = Bytes::from_static("[\"],\\é\n".as_bytes());
        check(Datatype::Bytes, r#""[\"],\\\u00e9\n""#, Some(Elements::Bytes(vec![escaped])));
        check(Datatype::Bytes, "null", None);
        check(Datatype::Bytes, "1", None);
        check(Datatype::Fp16, "1", None);
        assert!(matches!(one(Datatype::Fp32, "null"), Some(Elements::Fp32(v)) if v[0].is_nan()));
    }

    #[test]
    fn refusals_say_which_value_and_why() {
        let check = |datatype, data: &str, expected: &str| {
            assert_eq!(read(datatype, 2, data), Err(expected.to_owned()), "{data}");
        };
        check(Datatype::Int64, "[1]", "data has 1 values, its shape needs 2");
        check(Datatype::Int64, "[1, 2, 3]", "data has more values than the 2 that its shape needs");
        check(Datatype::Int64, r#"[1, "b at line 3"]"#, "value 1 of data is a string, which is no INT64");
        check(Datatype::Int64, "[1.5, 2]", "value 0 of data is 1.5, which is no INT64");
        check(Datatype::Bf16, "[1, 2]", "BF16 has no form in JSON; send it as binary data");
        let deep = format!("{}1{}", "[".repeat(20), "]".repeat(20));
        check(Datatype::Int64, &deep, "data has lists that are nested too deeply");
        check(Datatype::Int64, r#"{"a": 1}"#, "data is no list");
        check(Datatype::Int64, "1", "data is no list");
        check(Datatype::Int64, "[1, {}]", "value 1 of data is an object");
        let long = format!("[{}]", "1".repeat(50));
        check(Datatype::Int64, &long, "value 0 of data is a number of many digits, which is no INT64");
        check(Datatype::Fp32, "[1, 1e39]", "value 1 of data is 1e39, which is no FP32");
    }

    #[test]
    fn answers_are_flat_lists() {
        let written = |elements: &Elements| {
            let mut out = Vec::new();
            write(elements, &mut serde_json::Serializer::new(&mut out)).map_err(|e| e.to_string())?;
            Ok(String::from_utf8(out).unwrap())
        };
        let check = |elements, expected: Result<&str, &str>| {
            assert_eq!(written(&elements), expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(Elements::Fp32(vec![0.1, f32::NAN, f32::INFINITY]), Ok("[0.1,null,null]"));
        check(Elements::Bool(vec![true]), Ok("[true]"));
        let bytes = |values: &[&'static [u8]]| {
            Elements::Bytes(values.iter().map(|v| Bytes::from_static(v)).collect())
        };
        check(bytes(&[b"a", "港".as_bytes()]), Ok(r#"["a","港"]"#));
        check(bytes(&[b"a", &[0xFF]]), Err("value 1 is not UTF-8; ask for binary data"));
        check(Elements::Fp16(vec![f16::ONE]), Err("FP16 has no form in JSON; ask for binary data"));
    }
}
