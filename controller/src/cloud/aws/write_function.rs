//! Writes to a function and its versions. Where the API takes a precondition, it is given.

use aws_sdk_lambda::types::{Architecture as Processor, ImageConfig, PackageType, Runtime};
use larder_core::endpoint::Architecture;
use larder_core::names::Owner;
use larder_core::observed::{Code, FunctionConfig, Package};

use super::clients::Clients;
use super::error::Call;
use super::lambda::named;
use super::{function, tags};
use crate::cloud::Result;

impl Clients {
    pub(super) async fn create_function(
        &self,
        name: &str,
        owner: &Owner,
        code: &Code,
        architecture: Architecture,
        config: &FunctionConfig,
    ) -> Result<()> {
        let call = Call::new("CreateFunction", named(name));
        let settings = call.built(function::settings(config))?;
        let (package, code) = function::code(&code.package);
        let mut request = self.lambda.create_function();
        if package == PackageType::Zip {
            request =
                request.runtime(Runtime::from(config.start.runtime.as_str())).handler(&config.start.handler);
        }
        let request = request
            .function_name(name)
            .package_type(package)
            .code(code)
            .architectures(Processor::from(architecture.as_str()))
            .role(&config.role)
            .memory_size(config.memory_mib)
            .timeout(config.timeout_seconds)
            .ephemeral_storage(settings.ephemeral)
            .environment(settings.environment)
            .vpc_config(settings.vpc)
            .set_file_system_configs(Some(settings.mounts))
            .set_tags(Some(tags(owner).into()));
        call.done(request.send().await)
    }

    pub(super) async fn update_function_code(
        &self,
        name: &str,
        code: &Code,
        architecture: Architecture,
        revision_id: &str,
    ) -> Result<()> {
        let call = Call::new("UpdateFunctionCode", named(name));
        let request = self
            .lambda
            .update_function_code()
            .function_name(name)
            .architectures(Processor::from(architecture.as_str()))
            .revision_id(revision_id);
        let request = match &code.package {
            Package::Image { uri } => request.image_uri(uri),
            Package::Zip { bucket, key, version_id } => {
                request.s3_bucket(bucket).s3_key(key).set_s3_object_version(version_id.clone())
            }
        };
        call.done(request.send().await)
    }

    pub(super) async fn update_function_configuration(
        &self,
        name: &str,
        config: &FunctionConfig,
        revision_id: &str,
    ) -> Result<()> {
        let call = Call::new("UpdateFunctionConfiguration", named(name));
        let settings = call.built(function::settings(config))?;
        let request = self.lambda.update_function_configuration();
        // An image takes no runtime, and an archive nothing of an image.
        let request = if config.start.runtime.is_empty() {
            request.image_config(ImageConfig::builder().build())
        } else {
            request
                .runtime(Runtime::from(config.start.runtime.as_str()))
                .handler(&config.start.handler)
                .set_layers(Some(config.start.layers.clone()))
        };
        let request = request
            .function_name(name)
            .role(&config.role)
            .memory_size(config.memory_mib)
            .timeout(config.timeout_seconds)
            .ephemeral_storage(settings.ephemeral)
            .environment(settings.environment)
            .vpc_config(settings.vpc)
            .set_file_system_configs(Some(settings.mounts))
            .revision_id(revision_id);
        call.done(request.send().await)
    }

    /// Deletes one version, or the function with all of them.
    pub(super) async fn delete_function(&self, name: &str, version: Option<u64>) -> Result<()> {
        let resource = version.map_or_else(|| named(name), |version| numbered(name, version));
        let call = Call::new("DeleteFunction", resource);
        let request = self.lambda.delete_function().function_name(name);
        call.done(request.set_qualifier(version.map(|version| version.to_string())).send().await)
    }

    pub(super) async fn put_concurrency(&self, name: &str, reserved: i32) -> Result<()> {
        let call = Call::new("PutFunctionConcurrency", named(name));
        let request = self.lambda.put_function_concurrency().function_name(name);
        call.done(request.reserved_concurrent_executions(reserved).send().await)
    }

    pub(super) async fn delete_concurrency(&self, name: &str) -> Result<()> {
        let call = Call::new("DeleteFunctionConcurrency", named(name));
        call.done(self.lambda.delete_function_concurrency().function_name(name).send().await)
    }

    pub(super) async fn publish_version(&self, name: &str, sha256: &str, revision_id: &str) -> Result<()> {
        let call = Call::new("PublishVersion", named(name));
        let sha256 = Some(sha256.to_owned()).filter(|sha256| !sha256.is_empty());
        let request = self.lambda.publish_version().function_name(name).set_code_sha256(sha256);
        call.done(request.revision_id(revision_id).send().await)
    }

    pub(super) async fn put_provisioned(&self, name: &str, version: u64, count: i32) -> Result<()> {
        let call = Call::new("PutProvisionedConcurrencyConfig", numbered(name, version));
        let request = self.lambda.put_provisioned_concurrency_config().function_name(name);
        let request = request.qualifier(version.to_string()).provisioned_concurrent_executions(count);
        call.done(request.send().await)
    }

    pub(super) async fn delete_provisioned(&self, name: &str, version: u64) -> Result<()> {
        let call = Call::new("DeleteProvisionedConcurrencyConfig", numbered(name, version));
        let request = self.lambda.delete_provisioned_concurrency_config().function_name(name);
        call.done(request.qualifier(version.to_string()).send().await)
    }
}

fn numbered(name: &str, version: u64) -> String {
    format!("version {version} of function {name}")
}
