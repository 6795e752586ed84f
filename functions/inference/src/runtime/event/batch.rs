//! Batches of SQS: each message's body is a plain payload. What failed is named in the answer, so that the
//! queue keeps it and lets the rest go (the event source mapping's `ReportBatchItemFailures`).
//!
//! There is nobody to send an answer to: it goes to the log, under the target `larder::answer`.

use std::time::{Duration, Instant};

use axum::body::to_bytes;
use bytes::Bytes;
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Event, Events, Text, reply};
use crate::error::ApiError;
use crate::request::answered::Invocation;
use crate::request::id::RequestId;

/// The longest answer that is logged whole: CloudWatch Logs cuts events at 256 KiB.
const MOST_LOGGED: usize = 128 * 1024;

/// A message is not begun when there is less time than this.
const LEAST_TIME: Duration = Duration::from_millis(200);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, default, rename = "messageId")]
    id: Text<'a>,
    #[serde(borrow, default)]
    body: Text<'a>,
    #[serde(borrow)]
    event_source: Text<'a>,
    #[serde(borrow, default, rename = "eventSourceARN")]
    event_source_arn: Text<'a>,
    #[serde(borrow, default)]
    attributes: Attributes<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, rename = "AWSTraceHeader")]
    trace: Option<Text<'a>>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failures {
    batch_item_failures: Vec<Failed>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    item_identifier: String,
}

/// Answers a batch's messages one after the other, in their order.
pub(super) async fn answer(
    events: &Events,
    records: &RawValue,
    invocation: &Invocation,
    xray: Option<&str>,
) -> Result<Box<RawValue>, Diagnostic> {
    let messages = match messages(records) {
        Ok(messages) => messages,
        Err(error) => {
            let error_message = error.message.clone();
            // Logged and counted as others are; the queue is told by an error.
            events.through(super::refused(error), invocation.clone(), xray).await;
            return Err(Diagnostic { error_type: "Event".to_owned(), error_message });
        }
    };
    let until = Instant::now() + invocation.time;
    let mut failures = Failures::default();
    for message in &messages {
        let time = until.saturating_duration_since(Instant::now());
        let in_order = message.event_source_arn.as_str().rsplit('.').next() == Some("fifo");
        // In a queue with an order, nothing may overtake what failed.
        let held_up = in_order && !failures.batch_item_failures.is_empty();
        let done = !held_up && time >= LEAST_TIME && one(events, message, invocation, time).await;
        if !done {
            let item_identifier = message.id.as_str().to_owned();
            failures.batch_item_failures.push(Failed { item_identifier });
        }
    }
    let (messages, failed) = (messages.len(), failures.batch_item_failures.len());
    tracing::info!(id = %invocation.id, messages, failed, "batch answered");
    reply::written(&failures)
}

/// The records, if all are messages of SQS.
fn messages(records: &RawValue) -> Result<Vec<Message<'_>>, ApiError> {
    let messages: Vec<Message<'_>> = serde_json::from_str(records.get()).map_err(|e| {
        ApiError::bad_request(format!("field \"Records\": {e}; only messages of SQS are taken"))
    })?;
    if let Some(other) = messages.iter().find(|m| m.event_source.as_str() != "aws:sqs") {
        let source = other.event_source.as_str();
        let message = format!("a record is of {source:?}; only messages of SQS are taken");
        return Err(ApiError::bad_request(message));
    }
    Ok(messages)
}

/// Answers a message; tells whether that went well.
async fn one(events: &Events, message: &Message<'_>, invocation: &Invocation, time: Duration) -> bool {
    let message_id = message.id.as_str();
    let id = RequestId::parse(&format!("{}/{message_id}", invocation.id)).unwrap_or_else(RequestId::random);
    match through(events, message, Invocation { id: id.clone(), time }).await {
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer[..answer.len().min(MOST_LOGGED)]);
            let cut = answer.len() > MOST_LOGGED;
            tracing::info!(target: "larder::answer", %id, message_id, answer = %text, cut, "message answered");
            true
        }
        Err(error) => {
            let status = error.status.as_u16();
            tracing::warn!(%id, message_id, status, error = error.message, "message failed");
            false
        }
    }
}

async fn through(events: &Events, message: &Message<'_>, invocation: Invocation) -> Result<Bytes, ApiError> {
    let payload = Bytes::copy_from_slice(message.body.as_str().as_bytes());
    let parsed: Result<Event<'_>, ApiError> = serde_json::from_slice(&payload)
        .map_err(|e| ApiError::bad_request(format!("the message's body is not a payload: {e}")));
    let request = parsed.and_then(|event| events.plain(&event, payload.clone()));
    let request = request.unwrap_or_else(super::refused);
    let xray = message.attributes.trace.as_ref().map(Text::as_str);
    let response = events.through(request, invocation, xray).await;
    if let Some(error) = response.extensions().get::<ApiError>() {
        return Err(error.clone());
    }
    let read = to_bytes(response.into_body(), usize::MAX).await;
    read.map_err(|e| ApiError::internal("answering", "any", &e))
}
