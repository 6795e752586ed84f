//! Tensors as JSON: lists, flat or nested as the shape is, read straight into the buffer that the graph
//! will work on.
//!
//! FP16 and BF16 have no form here, as in Triton and `KServe`. A float that is no number is `null`: JSON
//! has no word for it, and clients read `null` as NaN.

use std::fmt::{self, Display};

use bytes::Bytes;
use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeSeq as _, Serializer};

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
/// What is wrong with the text, and at which value.
pub fn read(datatype: Datatype, count: usize, text: &str) -> Result<Elements, String> {
    if !has_form(datatype) {
        return Err(format!("{datatype} has no form in JSON; send it as binary data"));
    }
    macro_rules! elements {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match datatype {
                $(Datatype::$variant => Elements::$variant(list(datatype, count, text)?),)+
                Datatype::Bytes => Elements::Bytes(list(datatype, count, text)?),
            }
        };
    }
    Ok(each_number!(elements))
}

fn list<T: Scalar>(datatype: Datatype, count: usize, text: &str) -> Result<Vec<T>, String> {
    // An element takes two characters at least: itself and a comma or a bracket.
    let mut values = Vec::with_capacity(count.min(text.len() / 2));
    let list = Values { into: &mut values, datatype, count, depth: 0 };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(list).map_err(|error| {
        let message = error.to_string();
        // The place is counted from where the list begins, which is of no use to anybody.
        message.rsplit_once(" at line ").map_or(message.clone(), |(problem, _)| problem.to_owned())
    })?;
    if values.len() == count {
        Ok(values)
    } else {
        Err(format!("data has {} values, its shape needs {count}", values.len()))
    }
}

/// Adds one JSON value, or a list's values, to a list.
struct Values<'a, T> {
    into: &'a mut Vec<T>,
    datatype: Datatype,
    count: usize,
    depth: usize,
}

impl<T: Scalar> Values<'_, T> {
    fn take<E: serde::de::Error>(self, value: Option<T>, shown: impl Display) -> Result<(), E> {
        let at = self.into.len();
        if at == self.count {
            return Err(E::custom(format!("data has more values than the {at} that its shape needs")));
        }
        let unfit = || E::custom(format!("value {at} of data is {shown}, which is no {}", self.datatype));
        self.into.push(value.ok_or_else(unfit)?);
        Ok(())
    }
}

impl<'de, T: Scalar> DeserializeSeed<'de> for Values<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Scalar> Visitor<'de> for Values<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a boolean, a string, or a list of them")
    }
    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<(), E> {
        self.take(T::boolean(v), v)
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<(), E> {
        self.take(T::integer(v), v)
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        self.take(T::natural(v), v)
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<(), E> {
        self.take(T::real(v), v)
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.take(T::null(), "null")
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<(), E> {
        self.take(T::text(v), "a string")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { into, datatype, count, depth } = self;
        if depth == DIMENSIONS {
            return Err(A::Error::custom("data has lists that are nested too deeply"));
        }
        while seq.next_element_seed(Values { into: &mut *into, datatype, count, depth: depth + 1 })?.is_some()
        {
        }
        Ok(())
    }
}

/// What a JSON value is as an element, if it is one.
trait Scalar: Sized {
    fn boolean(_: bool) -> Option<Self> {
        None
    }
    fn integer(_: i64) -> Option<Self> {
        None
    }
    fn natural(_: u64) -> Option<Self> {
        None
    }
    fn real(_: f64) -> Option<Self> {
        None
    }
    fn null() -> Option<Self> {
        None
    }
    fn text(_: &str) -> Option<Self> {
        None
    }
}

impl Scalar for bool {
    fn boolean(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Scalar for Bytes {
    fn text(value: &str) -> Option<Self> {
        Some(Self::copy_from_slice(value.as_bytes()))
    }
}

macro_rules! whole {
    ($($number:ty),+) => {
        $(impl Scalar for $number {
            fn integer(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
            fn natural(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
        })+
    };
}
whole!(u8, u16, u32, u64, i8, i16, i32, i64);

#[expect(clippy::cast_precision_loss, reason = "a float cannot hold more")]
impl Scalar for f64 {
    fn integer(value: i64) -> Option<Self> {
        Some(value as Self)
    }
    fn natural(value: u64) -> Option<Self> {
        Some(value as Self)
    }
    fn real(value: f64) -> Option<Self> {
        Some(value)
    }
    fn null() -> Option<Self> {
        Some(Self::NAN)
    }
}

impl Scalar for f32 {
    fn integer(value: i64) -> Option<Self> {
        f64::integer(value).and_then(Self::real)
    }
    fn natural(value: u64) -> Option<Self> {
        f64::natural(value).and_then(Self::real)
    }
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what was asked for")]
    fn real(value: f64) -> Option<Self> {
        Some(value as Self).filter(|v| v.is_finite())
    }
    fn null() -> Option<Self> {
        Some(Self::NAN)
    }
}

/// Never reached: [`read`] refuses them.
impl Scalar for f16 {}
impl Scalar for bf16 {}

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
        assert!(read(Datatype::Int64, 1, r#"{"a": 1}"#).unwrap_err().contains("expected"));
        assert!(read(Datatype::Int64, 1, "[{}]").unwrap_err().contains("expected"));
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
