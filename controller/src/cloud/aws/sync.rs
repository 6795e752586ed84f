//! The model-sync function, asked and started.

use aws_sdk_lambda::types::InvocationType;
use aws_smithy_types::Blob;
use larder_contract::sync::{SyncEvent, SyncReport, SyncRequest};
use larder_contract::upkeep::{CollectRequest, Inventory, VerifyRequest};
use larder_core::Class;
use serde::de::DeserializeOwned;

use super::clients::Clients;
use super::error::Call;
use super::lambda::named;
use crate::cloud::{CloudError, Result};

impl Clients {
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
    pub(super) async fn sync_status(&self, function: &str, request: &SyncRequest) -> Result<SyncReport> {
        self.ask(function, &SyncEvent::Status(request.clone())).await
    }

    pub(super) async fn inventory(&self, function: &str) -> Result<Inventory> {
        self.ask(function, &SyncEvent::Inventory).await
    }

    pub(super) async fn collect(&self, function: &str, request: &CollectRequest) -> Result<()> {
        self.ask(function, &SyncEvent::Collect(request.clone())).await.map(|_: Inventory| ())
    }

    pub(super) async fn start_verify(&self, function: &str, request: &VerifyRequest) -> Result<()> {
        self.start(function, &SyncEvent::Verify(request.clone())).await
    }

    pub(super) async fn start_sync(&self, function: &str, request: &SyncRequest) -> Result<()> {
        self.start(function, &SyncEvent::Copy(request.clone())).await
    }

    async fn ask<T: DeserializeOwned>(&self, function: &str, event: &SyncEvent) -> Result<T> {
        let call = Call::new("Invoke", named(function));
        let request = self.invoke.invoke().function_name(function).payload(payload(&call, event)?);
        let answer = call.answer(request.invocation_type(InvocationType::RequestResponse).send().await)?;
        let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
        match answer.function_error {
            Some(kind) => Err(failure(&call, &kind, &body)),
            // The text is the function's own: it may hold what is nobody's business.
            None => serde_json::from_slice(&body).map_err(|_| call.lacks("readable answer")),
        }
    }

    /// As [`Self::ask`], without waiting for the end.
    async fn start(&self, function: &str, event: &SyncEvent) -> Result<()> {
        let call = Call::new("Invoke", named(function));
        let payload = payload(&call, event)?;
        let request = self.invoke.invoke().function_name(function).payload(payload);
        call.done(request.invocation_type(InvocationType::Event).send().await)
    }
}

fn payload(call: &Call, event: &SyncEvent) -> Result<Blob> {
    let bytes = serde_json::to_vec(event).map_err(|e| call.failed(Class::Invalid, "", &e.to_string()))?;
    Ok(Blob::new(bytes))
}

/// What the function said of its own failure.
fn failure(call: &Call, kind: &str, body: &[u8]) -> CloudError {
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| said.get(field).and_then(serde_json::Value::as_str);
    let message = text("errorMessage").unwrap_or("the function ended without a message; see its logs");
    call.failed(Class::Transient, text("errorType").unwrap_or(kind), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_s_failure_is_told_in_its_words() {
        let call = Call::new("Invoke", named("larder-x-sync"));
        for (body, code, message) in [
            (r#"{"errorType":"Copy","errorMessage":"disk full"}"#, "Copy", "disk full"),
            ("", "Unhandled", "the function ended without a message; see its logs"),
        ] {
            let problem = failure(&call, "Unhandled", body.as_bytes()).problem;
            assert_eq!((problem.code.as_str(), problem.message.as_str()), (code, message));
            assert_eq!(
                (problem.class, problem.resource.as_str()),
                (Class::Transient, "function larder-x-sync")
            );
        }
    }
}
