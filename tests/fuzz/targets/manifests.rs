//! A manifest, and what model-sync is asked: read, and written back as it was.
#![no_main]

use larder_contract::Manifest;
use larder_contract::sync::SyncEvent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let again: Manifest = serde_json::from_slice(&manifest.canonical()).expect("what is written is read");
        assert_eq!(again, manifest);
    }
    if let Ok(event) = serde_json::from_slice::<SyncEvent>(bytes) {
        let written = serde_json::to_vec(&event).expect("what is read is written");
        assert_eq!(serde_json::from_slice::<SyncEvent>(&written).ok(), Some(event));
    }
});
