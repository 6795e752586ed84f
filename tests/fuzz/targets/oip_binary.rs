//! A request of the Open Inference Protocol with binary data: the first two bytes say how long its JSON is.
//! What is read is written back as it was.
#![no_main]

use bytes::Bytes;
use larder_inference::protocol::oip::{binary, request::parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [high, low, body @ ..] = input else { return };
    let body = Bytes::copy_from_slice(body);
    let Ok(request) = parse(&body, Some(usize::from(u16::from_be_bytes([*high, *low])))) else { return };
    for tensor in request.inputs {
        let Ok(elements) = tensor.elements() else { continue };
        let mut written = Vec::new();
        binary::write(&elements, &mut written);
        assert_eq!(written.len(), binary::size(&elements));
        let again = binary::read(tensor.datatype, elements.len(), &written.clone().into());
        let mut twice = Vec::new();
        binary::write(&again.expect("what is written is read"), &mut twice);
        assert_eq!(twice, written);
    }
});
