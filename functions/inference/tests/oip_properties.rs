//! What holds for every tensor and every body: nothing that is sent makes the parser panic, and what is
//! written, as JSON or as bytes, is read back as it was.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use larder_inference::protocol::oip::answer::{Answer, Written, write};
use larder_inference::protocol::oip::request::{Given, fitted, parse};
use larder_inference::protocol::oip::{binary, json};
use larder_inference::tasks::tensor::{Datatype, Elements, NamedTensor, Port};
use proptest::collection::vec;
use proptest::prelude::*;

fn datatype() -> impl Strategy<Value = Datatype> {
    prop::sample::select(Datatype::ALL)
}

/// Any values of a type, NaN and bytes that are no text among them.
fn elements(datatype: Datatype, count: usize) -> BoxedStrategy<Elements> {
    let read = move |bytes: Vec<u8>| binary::read(datatype, count, &bytes.into()).unwrap();
    match datatype.size() {
        None => {
            let value = prop_oneof![".{0,6}".prop_map(String::into_bytes), vec(any::<u8>(), 0..6)];
            vec(value.prop_map(Bytes::from), count).prop_map(Elements::Bytes).boxed()
        }
        Some(_) if datatype == Datatype::Bool => vec(0..2_u8, count).prop_map(read).boxed(),
        Some(size) => vec(any::<u8>(), count * size).prop_map(read).boxed(),
    }
}

fn tensor() -> impl Strategy<Value = (NamedTensor, bool)> {
    (datatype(), vec(0..4_i64, 0..4), ".{0,4}", any::<bool>()).prop_flat_map(
        |(datatype, shape, name, is_binary)| {
            let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
            elements(datatype, count).prop_map(move |elements| {
                let is_binary = is_binary || !is_json(&elements);
                (NamedTensor { name: name.clone(), shape: shape.clone(), elements }, is_binary)
            })
        },
    )
}

/// Whether JSON has words for all the values.
fn is_json(elements: &Elements) -> bool {
    let is_said = if let Elements::Fp32(values) = elements {
        values.iter().all(|v| v.is_finite())
    } else if let Elements::Fp64(values) = elements {
        values.iter().all(|v| v.is_finite())
    } else if let Elements::Bytes(values) = elements {
        values.iter().all(|v| std::str::from_utf8(v).is_ok())
    } else {
        true
    };
    is_said && json::has_form(elements.datatype())
}

fn tensors() -> impl Strategy<Value = Vec<(NamedTensor, bool)>> {
    vec(tensor(), 0..5).prop_map(|mut tensors| {
        for (at, (tensor, _)) in tensors.iter_mut().enumerate() {
            tensor.name.push_str(&at.to_string());
        }
        tensors
    })
}

fn written(outputs: Vec<(NamedTensor, bool)>) -> Written {
    let answer = Answer { model_name: "m".to_owned(), model_version: "1".to_owned(), id: None, outputs };
    write(&answer).unwrap()
}

/// The outputs of an answer as the inputs of a request: the protocol writes both the same way.
fn as_request(Written { body, json_length }: Written) -> (Vec<u8>, Option<usize>) {
    let outputs = br#""outputs":"#;
    let at = body.windows(outputs.len()).position(|part| part == outputs).unwrap();
    let body = [&body[..at], br#""inputs":"#, &body[at + outputs.len()..]].concat();
    (body, json_length.map(|length| length - 1))
}

fn bytes(elements: &Elements) -> (Datatype, Vec<u8>) {
    let mut out = Vec::new();
    binary::write(elements, &mut out);
    assert_eq!(out.len(), binary::size(elements));
    (elements.datatype(), out)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn what_is_written_is_read_back(tensors in tensors()) {
        let (body, json_length) = as_request(written(tensors.clone()));
        let body = Bytes::from(body);
        let request = parse(&body, json_length).unwrap();
        let forms: Vec<_> = request.inputs.iter().map(Given::is_binary).collect();
        let expected: Vec<_> = tensors.iter().map(|(_, is_binary)| *is_binary).collect();
        prop_assert_eq!(forms, expected);
        let ports: Vec<_> = tensors
            .iter()
            .map(|(tensor, _)| Port {
                name: tensor.name.clone(),
                datatype: Some(tensor.elements.datatype()),
                shape: tensor.shape.clone(),
            })
            .collect();
        let read = fitted(request.inputs, &ports).unwrap();
        prop_assert_eq!(read.len(), tensors.len());
        for (read, (tensor, _)) in read.iter().zip(&tensors) {
            prop_assert_eq!(&read.shape, &tensor.shape);
            prop_assert_eq!(bytes(&read.elements), bytes(&tensor.elements));
        }
    }

    #[test]
    fn broken_requests_are_refused_or_read_but_never_panic(
        tensors in tensors(),
        cuts in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in prop::option::of(0..400_usize),
    ) {
        let (mut body, json_length) = as_request(written(tensors));
        for (at, byte) in cuts {
            let at = at.index(body.len());
            if byte < 32 { body.truncate(at + 1) } else { body[at] = byte }
        }
        read_all(&body.into(), length.or(json_length));
    }

    #[test]
    fn any_bytes_are_refused_or_read_but_never_panic(
        body in vec(any::<u8>(), 0..200), length in prop::option::of(0..300_usize),
    ) {
        read_all(&body.into(), length);
    }

    #[test]
    fn any_data_is_refused_or_read_but_never_panics(
        datatype in datatype(), count in prop_oneof![0..20_usize, any::<usize>()],
        data in vec(any::<u8>(), 0..100), text in r#"\[([\[\]{},0-9eE.\-" ]{0,30}|(-?[0-9]{1,3}, )*("[a-z]?"|null|true|[0-9]))\]"#,
    ) {
        if let Ok(elements) = binary::read(datatype, count, &data.into()) {
            prop_assert_eq!(elements.len(), count);
        }
        if let Ok(data) = serde_json::from_str(&text)
            && let Ok(elements) = json::read(datatype, count, data)
        {
            prop_assert_eq!(elements.len(), count);
        }
    }
}

fn read_all(body: &Bytes, json_length: Option<usize>) {
    if let Ok(request) = parse(body, json_length) {
        for given in &request.inputs {
            if let Ok(elements) = given.elements() {
                assert_eq!(elements.len(), given.count);
            }
        }
        drop(fitted(request.inputs, &[]));
    }
}
