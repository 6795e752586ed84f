//! A recogniser's character list, and the classes that are decoded with it.
#![no_main]

use larder_inference::tasks::ocr::recognise::Alphabet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<f32>)| {
    let (list, steps) = input;
    let alphabet = Alphabet::parse(list);
    assert_eq!(alphabet.classes(), list.lines().count() + 2);
    let reading = alphabet.decode(&steps);
    assert!(reading.confidence.is_nan() || reading.text.is_empty() || !steps.is_empty());
});
