//! A Lambda function between AWS's words and ours.

use std::collections::BTreeSet;

use aws_sdk_lambda::operation::get_function::GetFunctionOutput;
use aws_sdk_lambda::types::{
    Environment, EphemeralStorage, FileSystemConfig, FunctionCode, FunctionCodeLocation,
    FunctionConfiguration, ImageConfig, LastUpdateStatus, PackageType, VpcConfig,
};
use aws_smithy_types::base64;
use aws_smithy_types::error::operation::BuildError;
use larder_contract::Digest;
use larder_core::endpoint::Architecture;
use larder_core::observed::{Function, FunctionConfig, LastUpdate, Package, Remote, Start};

use super::lambda::time;

/// The function of an answer, whoever owns it; none when the answer has no configuration.
///
/// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html>
pub(super) fn read(answer: GetFunctionOutput) -> Option<Remote<Function>> {
    let found = answer.configuration?;
    let state = found.state.as_ref().map_or("", |state| state.as_str()).to_owned();
    let reason = found.state_reason.clone().unwrap_or_default();
    let it = Function {
        name: found.function_name.clone().unwrap_or_default(),
        arn: unqualified(found.function_arn.as_deref().unwrap_or_default()),
        code_digest: code_digest(&found, answer.code.as_ref()),
        code_sha256: found.code_sha256.clone().unwrap_or_default(),
        architecture: architecture(&found),
        last_update: last_update(&found),
        revision_id: found.revision_id.clone().unwrap_or_default(),
        reserved: answer.concurrency.and_then(|it| it.reserved_concurrent_executions),
        modified: found.last_modified.as_deref().and_then(time),
        last_modified: found.last_modified.clone().unwrap_or_default(),
        config: config(found),
    };
    Some(match state.as_str() {
        "Active" | "Inactive" => Remote::Ready(it), // an inactive one wakes at its first invoke
        "Failed" => Remote::Failed { it, reason },
        "Deleting" => Remote::Deleting(it),
        _ => Remote::Pending(it),
    })
}

/// `arn:<partition>:lambda:<region>:<account>:function:<name>` of an ARN that may go on with a qualifier.
fn unqualified(arn: &str) -> String {
    arn.split(':').take(7).collect::<Vec<_>>().join(":")
}

/// What runs, as `sha256:` and hex digits; empty when AWS does not say.
fn code_digest(found: &FunctionConfiguration, code: Option<&FunctionCodeLocation>) -> String {
    if found.package_type == Some(PackageType::Image) {
        let by_digest = |uri: &str| uri.split_once('@').map(|(_, digest)| digest.to_owned());
        return code
            .and_then(|code| {
                let resolved = code.resolved_image_uri.as_deref().and_then(by_digest);
                resolved.or_else(|| code.image_uri.as_deref().and_then(by_digest))
            })
            .unwrap_or_default();
    }
    let bytes = base64::decode(found.code_sha256.as_deref().unwrap_or_default()).unwrap_or_default();
    <[u8; 32]>::try_from(bytes).map_or_else(|_| String::new(), |it| Digest::from_bytes(it).to_string())
}

/// x86-64 is what a function is made for when nothing is said.
fn architecture(found: &FunctionConfiguration) -> Architecture {
    let first = found.architectures.as_deref().and_then(<[_]>::first);
    if first.is_some_and(|it| it.as_str() == Architecture::Arm64.as_str()) {
        Architecture::Arm64
    } else {
        Architecture::X86_64
    }
}

fn last_update(found: &FunctionConfiguration) -> LastUpdate {
    match found.last_update_status.as_ref().map(LastUpdateStatus::as_str) {
        Some("Successful") => LastUpdate::Successful,
        Some("Failed") => LastUpdate::Failed(found.last_update_status_reason.clone().unwrap_or_default()),
        _ => LastUpdate::InProgress,
    }
}

fn config(found: FunctionConfiguration) -> FunctionConfig {
    let vpc = found.vpc_config;
    let set = |ids: Option<Vec<String>>| ids.unwrap_or_default().into_iter().collect::<BTreeSet<_>>();
    let (subnets, security_groups) =
        vpc.map_or_else(Default::default, |vpc| (set(vpc.subnet_ids), set(vpc.security_group_ids)));
    let mount = found.file_system_configs.unwrap_or_default().into_iter().next();
    let start = if found.package_type == Some(PackageType::Image) {
        Start {
            overrides: overrides(found.image_config_response.and_then(|it| it.image_config)),
            ..Start::default()
        }
    } else {
        Start {
            runtime: found.runtime.map(|runtime| runtime.as_str().to_owned()).unwrap_or_default(),
            handler: found.handler.unwrap_or_default(),
            layers: found.layers.unwrap_or_default().into_iter().filter_map(|layer| layer.arn).collect(),
            overrides: Vec::new(),
        }
    };
    FunctionConfig {
        role: found.role.unwrap_or_default(),
        memory_mib: found.memory_size.unwrap_or_default(),
        timeout_seconds: found.timeout.unwrap_or_default(),
        ephemeral_mib: found.ephemeral_storage.map_or(512, |storage| storage.size), // the API's default
        env: found.environment.and_then(|env| env.variables).unwrap_or_default().into_iter().collect(),
        subnets,
        security_groups,
        mount: mount.map(|mount| (mount.arn, mount.local_mount_path)),
        start,
    }
}

fn overrides(of: Option<ImageConfig>) -> Vec<String> {
    let Some(of) = of else { return Vec::new() };
    let lists = [of.entry_point, of.command].into_iter().flatten().flatten();
    lists.chain(of.working_directory).filter(|word| !word.is_empty()).collect()
}

/// A [`FunctionConfig`] in the SDK's types. What is empty is said to be: an update clears it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) ephemeral: EphemeralStorage,
    pub(super) environment: Environment,
    pub(super) vpc: VpcConfig,
    pub(super) mounts: Vec<FileSystemConfig>,
}

/// # Errors
/// None: each builder is given all that it asks for.
pub(super) fn settings(config: &FunctionConfig) -> Result<Settings, BuildError> {
    let variables = config.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mount = config
        .mount
        .as_ref()
        .map(|(arn, path)| FileSystemConfig::builder().arn(arn).local_mount_path(path).build());
    Ok(Settings {
        ephemeral: EphemeralStorage::builder().size(config.ephemeral_mib).build()?,
        environment: Environment::builder().set_variables(Some(variables)).build(),
        vpc: VpcConfig::builder()
            .set_subnet_ids(Some(config.subnets.iter().cloned().collect()))
            .set_security_group_ids(Some(config.security_groups.iter().cloned().collect()))
            .build(),
        mounts: mount.transpose()?.into_iter().collect(),
    })
}

/// Where code is, in the SDK's types.
pub(super) fn code(package: &Package) -> (PackageType, FunctionCode) {
    match package {
        Package::Image { uri } => (PackageType::Image, FunctionCode::builder().image_uri(uri).build()),
        Package::Zip { bucket, key, version_id } => (
            PackageType::Zip,
            FunctionCode::builder()
                .s3_bucket(bucket)
                .s3_key(key)
                .set_s3_object_version(version_id.clone())
                .build(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::{Concurrency, State, VpcConfigResponse};

    use super::*;

    fn zip(state: Option<State>, update: Option<LastUpdateStatus>) -> GetFunctionOutput {
        let found = FunctionConfiguration::builder()
            .function_name("larder-x")
            .function_arn("arn:aws:lambda:eu-west-1:123456789012:function:larder-x:7")
            .package_type(PackageType::Zip)
            .code_sha256(base64::encode([7_u8; 32]))
            .architectures(aws_sdk_lambda::types::Architecture::Arm64)
            .set_state(state)
            .state_reason("because")
            .set_last_update_status(update)
            .last_update_status_reason("so")
            .vpc_config(
                VpcConfigResponse::builder().subnet_ids("subnet-1").security_group_ids("sg-1").build(),
            )
            .file_system_configs(
                FileSystemConfig::builder().arn("arn:ap").local_mount_path("/mnt/models").build().unwrap(),
            )
            .build();
        GetFunctionOutput::builder()
            .configuration(found)
            .concurrency(Concurrency::builder().reserved_concurrent_executions(5).build())
            .build()
    }

    #[test]
    fn a_function_is_read() {
        let remote = read(zip(Some(State::Active), Some(LastUpdateStatus::Successful))).unwrap();
        let it = remote.ready().unwrap();
        assert_eq!(it.arn, "arn:aws:lambda:eu-west-1:123456789012:function:larder-x");
        assert_eq!(it.architecture, Architecture::Arm64);
        assert_eq!(it.reserved, Some(5));
        assert_eq!(it.config.ephemeral_mib, 512);
        assert_eq!(it.config.mount, Some(("arn:ap".to_owned(), "/mnt/models".to_owned())));
        assert_eq!(it.config.subnets, ["subnet-1".to_owned()].into());
        assert_eq!(it.last_update, LastUpdate::Successful);
        assert_eq!(read(GetFunctionOutput::builder().build()), None);
    }

    #[test]
    fn states_are_read() {
        for (state, word) in [
            (None, "pending"),
            (Some(State::Pending), "pending"),
            (Some(State::Active), "ready"),
            (Some(State::Inactive), "ready"),
            (Some(State::Failed), "failed because"),
            (Some(State::Deleting), "deleting"),
        ] {
            let remote = read(zip(state.clone(), None)).unwrap();
            let seen = match &remote {
                Remote::Pending(_) => "pending",
                Remote::Ready(_) => "ready",
                Remote::Failed { reason, .. } => &format!("failed {reason}"),
                Remote::Deleting(_) => "deleting",
                Remote::Absent | Remote::Foreign { .. } => "not there",
            };
            assert_eq!(seen, word, "{state:?}");
        }
        for (status, update) in [
            (None, LastUpdate::InProgress),
            (Some(LastUpdateStatus::InProgress), LastUpdate::InProgress),
            (Some(LastUpdateStatus::Failed), LastUpdate::Failed("so".to_owned())),
        ] {
            let remote = read(zip(Some(State::Active), status)).unwrap();
            assert_eq!(remote.ready().unwrap().last_update, update);
        }
    }

    #[test]
    fn code_is_told_by_its_digest() {
        let image = FunctionConfiguration::builder().package_type(PackageType::Image).build();
        let location = |image: &str, resolved: Option<&str>| {
            FunctionCodeLocation::builder()
                .image_uri(image)
                .set_resolved_image_uri(resolved.map(str::to_owned))
                .build()
        };
        for (location, digest) in [
            (location("r/x:1", Some("r/x@sha256:aa")), "sha256:aa"),
            (location("r/x@sha256:bb", None), "sha256:bb"),
            (location("r/x:1", None), ""),
        ] {
            assert_eq!(code_digest(&image, Some(&location)), digest);
        }
        let zip = |sha: &str| FunctionConfiguration::builder().code_sha256(sha).build();
        for sha in ["", "AAAA", "not base64"] {
            assert_eq!(code_digest(&zip(sha), None), "", "{sha}");
        }
        let bytes = base64::encode([7_u8; 32]);
        assert_eq!(code_digest(&zip(&bytes), None), format!("sha256:{}", "07".repeat(32)));
    }

    #[test]
    fn what_is_empty_is_said_to_be() {
        let empty = FunctionConfig {
            role: String::new(),
            memory_mib: 128,
            timeout_seconds: 3,
            ephemeral_mib: 512,
            env: [].into(),
            subnets: [].into(),
            security_groups: [].into(),
            mount: None,
            start: Start::default(),
        };
        let settings = settings(&empty).unwrap();
        assert_eq!(settings.environment.variables, Some([].into()));
        assert_eq!(settings.vpc.subnet_ids, Some(Vec::new()));
        assert!(settings.mounts.is_empty());
    }
}
