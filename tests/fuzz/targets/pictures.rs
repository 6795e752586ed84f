//! A picture's bytes: decoded within the limits, or refused.
#![no_main]

use larder_inference::tasks::picture::{MAX_PIXELS, Picture};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = Picture::decode(bytes) {
        assert!(picture.width() as u64 * picture.height() as u64 <= MAX_PIXELS);
    }
});
