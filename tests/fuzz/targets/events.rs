//! What Lambda is invoked with: answered, or refused with an answer that is JSON.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use larder_inference::request::answered::Invocation;
use larder_inference::request::id::RequestId;
use larder_inference::runtime::event::{Events, Operations};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

/// Routes that repeat what reached them.
static EVENTS: LazyLock<(Runtime, Events)> = LazyLock::new(|| {
    let router = Router::new().fallback(async |request: Request| request.into_body());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    (runtime, Events { router, base: Some("/ml".to_owned()), only_model: None, operations: Operations::default() })
});

fuzz_target!(|event: &[u8]| {
    let (runtime, events) = &*EVENTS;
    let id = RequestId::parse("8476a536-e9f4-11e8-9739-2dfe598c3fcd").expect("an id");
    let invocation = Invocation { id, time: Duration::from_secs(30) };
    if let Ok(answer) = runtime.block_on(events.answer(Bytes::copy_from_slice(event), invocation, None)) {
        serde_json::from_str::<serde_json::Value>(answer.get()).expect("an answer is JSON");
    }
});
