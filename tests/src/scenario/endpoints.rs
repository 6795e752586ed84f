//! Endpoints as users have them: written, applied, waited for, deleted.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use larder_crds::InferenceEndpoint;
use serde_json::{Value, json};

use super::{BUCKET, NAMESPACE, Ocr, Scenario, TAG};
use crate::stack::{ACCOUNT, REGION};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A small endpoint: one tensor model, at the prefix of its name, no warm sandboxes, a function URL for everyone.
#[must_use]
pub fn small_endpoint(name: &str) -> Value {
    json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "models": [{
                "name": "det",
                "task": "tensor",
                "source": {"s3": {"bucket": BUCKET, "prefix": format!("{name}/")}}
            }],
            "refresh": {"intervalSeconds": 5, "settleSeconds": 1},
            "storage": {"efs": {"managed": {}}},
            "network": {"subnetIds": ["subnet-00000001"], "securityGroupIds": ["sg-00000001"]},
            "function": {
                "image": format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-inference:{TAG}"),
                "architecture": "x86_64",
                "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/larder")
            },
            "expose": {"functionUrl": {"authType": "NONE"}}
        }
    })
}

/// What the model of [`small_endpoint`] takes.
#[must_use]
pub fn tensor() -> Value {
    json!({"name": "x", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": vec![0.5; 3 * 32 * 32]})
}

impl Scenario {
    /// Uploads the detection model as the only file of a model.
    ///
    /// # Errors
    /// When the file is missing or the upload fails.
    pub async fn upload_det(&self, bucket: &str, prefix: &str, ocr: Ocr) -> Result<()> {
        let [(_, path), _] = self.models(ocr);
        let body = tokio::fs::read(&path).await.with_context(|| path.display().to_string())?;
        let put = self.stack.s3().put_object().bucket(bucket).key(format!("{prefix}model.onnx"));
        put.body(body.into()).send().await.context("PutObject")?;
        Ok(())
    }

    /// Applies an endpoint, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("the object has no name")?;
        let params = PatchParams::apply("e2e").force();
        self.endpoints().patch(name, &params, &Patch::Apply(object)).await?;
        Ok(())
    }

    /// Changes some of an endpoint's spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn change(&self, name: &str, spec: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.endpoints().patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until an endpoint is as `is_so` says, and gives it.
    ///
    /// # Errors
    /// When it is not so within so many seconds: with its conditions and plan.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        seconds: u64,
        is_so: impl Fn(&InferenceEndpoint) -> bool,
    ) -> Result<InferenceEndpoint> {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let seen = self.endpoints().get_opt(name).await?;
            let status = match seen {
                Some(endpoint) if is_so(&endpoint) => return Ok(endpoint),
                seen => seen.and_then(|it| it.status),
            };
            if Instant::now() > end {
                bail!("waited in vain, for {seconds} s, for {name} {what}: {status:#?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Deletes an endpoint, and waits until it is gone.
    ///
    /// # Errors
    /// When it is not within so many seconds: with its status.
    pub async fn delete(&self, name: &str, seconds: u64) -> Result<()> {
        self.endpoints().delete(name, &DeleteParams::default()).await?;
        let end = Instant::now() + Duration::from_secs(seconds);
        while let Some(there) = self.endpoints().get_opt(name).await? {
            ensure!(Instant::now() < end, "{name} is not gone: {:#?}", there.status);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// That nothing is left in AWS.
    ///
    /// # Errors
    /// When something is, or AWS cannot be asked.
    pub async fn nothing_left(&self) -> Result<()> {
        let left = self.stack.leftovers().await?;
        ensure!(left.is_empty(), "left in AWS: {left:?}");
        Ok(())
    }
}
