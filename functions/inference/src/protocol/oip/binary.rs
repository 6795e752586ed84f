//! Tensors as bytes: little-endian, row by row, nothing between elements; a BYTES element has its length
//! before it, in four bytes (Triton, "Binary Tensor Data Extension").

use bytes::{Buf as _, Bytes};
use half::{bf16, f16};

use crate::tasks::tensor::{Datatype, Elements, each_number};

/// Bytes before a BYTES element.
const LENGTH: usize = size_of::<u32>();

/// Reads `count` elements, in one pass into the buffer that the graph will work on. BYTES elements stay
/// where they are and share `data`.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read(datatype: Datatype, count: usize, data: &Bytes) -> Result<Elements, String> {
    if let Some(size) = datatype.size()
        && count.checked_mul(size) != Some(data.len())
    {
        return Err(format!(
            "has {} bytes of binary data, but {count} elements of {datatype} take {size} each",
            data.len()
        ));
    }
    macro_rules! elements {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match datatype {
                $(Datatype::$variant => Elements::$variant(Fixed::read(data)?),)+
                Datatype::Bytes => Elements::Bytes(lengths_and_bytes(count, data.clone())?),
            }
        };
    }
    Ok(each_number!(elements))
}

fn lengths_and_bytes(count: usize, mut data: Bytes) -> Result<Vec<Bytes>, String> {
    if data.len() / LENGTH < count {
        return Err(format!("has {} bytes of binary data, too few for {count} elements", data.len()));
    }
    let mut values = Vec::with_capacity(count);
    for at in 0..count {
        let length = data.try_get_u32_le().ok().and_then(|length| usize::try_from(length).ok());
        match length {
            Some(length) if length <= data.len() => values.push(data.split_to(length)),
            Some(length) => {
                return Err(format!(
                    "value {at} should have {length} bytes, but {} are left of its binary data",
                    data.len()
                ));
            }
            None => return Err(format!("binary data ends before value {at} of {count}")),
        }
    }
    if data.is_empty() {
        Ok(values)
    } else {
        Err(format!("has {} bytes of binary data more than its {count} elements", data.len()))
    }
}

/// The bytes that elements take in binary form.
#[must_use]
pub fn size(elements: &Elements) -> usize {
    match (elements.datatype().size(), elements) {
        (Some(size), elements) => size * elements.len(),
        (None, Elements::Bytes(values)) => values.iter().map(|v| LENGTH + v.len()).sum(),
        (None, _) => 0,
    }
}

/// Appends elements in binary form.
pub fn write(elements: &Elements, out: &mut Vec<u8>) {
    macro_rules! written {
        ($($variant:ident: $number:ty = $element:ident),+) => {
            match elements {
                $(Elements::$variant(values) => Fixed::write(values, out),)+
                Elements::Bytes(values) => {
                    for value in values {
                        // No answer comes near 4 GiB.
                        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                        out.extend_from_slice(&length.to_le_bytes());
                        out.extend_from_slice(value);
                    }
                }
            }
        };
    }
    each_number!(written);
}

/// An element that always takes the same number of bytes.
trait Fixed: Sized {
    fn read(data: &[u8]) -> Result<Vec<Self>, String>;
    fn write(values: &[Self], out: &mut Vec<u8>);
}

macro_rules! fixed {
    ($($number:ty),+) => {
        $(impl Fixed for $number {
            fn read(data: &[u8]) -> Result<Vec<Self>, String> {
                let (values, _) = data.as_chunks();
                Ok(values.iter().map(|bytes| Self::from_le_bytes(*bytes)).collect())
            }
            fn write(values: &[Self], out: &mut Vec<u8>) {
                let start = out.len();
                out.resize(start + size_of_val(values), 0);
                let (places, _) = out[start..].as_chunks_mut();
                for (place, value) in places.iter_mut().zip(values) {
                    *place = value.to_le_bytes();
                }
            }
        })+
    };
}
fixed!(u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64);

impl Fixed for bool {
    fn read(data: &[u8]) -> Result<Vec<Self>, String> {
        match data.iter().position(|byte| *byte > 1) {
            Some(at) => Err(format!("value {at} is {}, but a BOOL is 0 or 1", data[at])),
            None => Ok(data.iter().map(|byte| *byte == 1).collect()),
        }
    }
    fn write(values: &[Self], out: &mut Vec<u8>) {
        out.extend(values.iter().map(|value| u8::from(*value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_elements_and_bytes_again() {
        let check = |data: &'static [u8], elements: Elements| {
            let read = read(elements.datatype(), elements.len(), &Bytes::from_static(data));
            assert_eq!(read.as_ref(), Ok(&elements));
            let mut written = b"before".to_vec();
            write(&elements, &mut written);
            assert_eq!(&written[6..], data, "{elements:?}");
            assert_eq!(size(&elements), data.len());
        };
        check(&[1, 0], Elements::Bool(vec![true, false]));
        check(&[1, 2, 254, 255], Elements::Uint16(vec![0x0201, 0xFFFE]));
        check(&[0xFE, 0xFF, 0xFF, 0xFF], Elements::Int32(vec![-2]));
        check(&[0, 0, 0x80, 0x3F], Elements::Fp32(vec![1.0]));
        check(&[0, 0x3C], Elements::Fp16(vec![f16::ONE]));
        check(&[0x80, 0x3F], Elements::Bf16(vec![bf16::ONE]));
        check(&[], Elements::Fp64(vec![]));
        let texts = vec![Bytes::from_static(&[0xFF, 0]), Bytes::new()];
        check(&[2, 0, 0, 0, 0xFF, 0, 0, 0, 0, 0], Elements::Bytes(texts));
    }

    #[test]
    fn refusals_say_what_is_there_and_what_should_be() {
        let check = |datatype, count, data: &'static [u8], part: &str| {
            let refusal = read(datatype, count, &Bytes::from_static(data)).unwrap_err();
            assert!(refusal.contains(part), "{refusal}");
        };
        check(Datatype::Fp32, 2, &[0; 7], "has 7 bytes of binary data, but 2 elements of FP32 take 4 each");
        check(Datatype::Fp32, usize::MAX, &[0; 4], "take 4 each");
        check(Datatype::Bool, 2, &[0, 2], "value 1 is 2");
        check(Datatype::Bytes, 1, &[0; 3], "too few for 1 elements");
        check(Datatype::Bytes, usize::MAX, &[0; 8], "too few");
        check(Datatype::Bytes, 1, &[2, 0, 0, 0, 1], "value 0 should have 2 bytes, but 1 are left");
        check(Datatype::Bytes, 1, &[255, 255, 255, 255, 1], "should have 4294967295 bytes");
        check(Datatype::Bytes, 2, &[4, 0, 0, 0, 0, 0, 0, 0], "ends before value 1 of 2");
        check(Datatype::Bytes, 1, &[0, 0, 0, 0, 7], "has 1 bytes of binary data more than");
    }
}
