//! A request of the Open Inference Protocol in JSON: understood, or refused; never a panic, never more
//! elements than its bytes can say.
#![no_main]

use bytes::Bytes;
use larder_inference::protocol::oip::request::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    if let Ok(request) = parse(&body, None) {
        for tensor in request.inputs {
            if let Ok(elements) = tensor.elements() {
                assert!(elements.len() <= body.len());
            }
        }
    }
});
