//! From a place to clients for it: credentials, account and budget.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::error::SdkError;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use larder_core::Class;
use larder_core::endpoint::Place;
use larder_sources::Sources;
use tokio::sync::{Mutex, Semaphore};

use super::AwsCloud;
use super::budget::Budget;
use super::credits::Credits;
use super::door::Door;
use super::error::Call;
use super::s3::Archives;
use crate::cloud::Result;

const CONNECT: Duration = Duration::from_secs(3);
const OPERATION: Duration = Duration::from_secs(20);
/// A cold start of the model-sync function is in it.
const INVOKE: Duration = Duration::from_secs(30);

/// A long poll of 20 s is in it.
const POLL: Duration = Duration::from_secs(30);

/// So many places are opened at once. Fewer than the endpoints that are worked on at once, so that places that do
/// not open leave the others room.
const OPENINGS: usize = 4;

const NAME: &str = "larder";

/// How AWS is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The most calls in a second, of one account in one region, that neither get nor invoke.
    pub calls_per_second: u32,
    /// Where AWS is, when not where the SDKs and `AWS_ENDPOINT_URL` say.
    pub endpoint_url: Option<String>,
    /// Hosts of models' sources that may have any address.
    pub source_hosts: Vec<String>,
    /// Certificate authorities of models' sources, in PEM, beside the public ones.
    pub source_ca: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { calls_per_second: 10, endpoint_url: None, source_hosts: Vec::new(), source_ca: None }
    }
}

/// What all [`AwsCloud`]s of a process share.
pub struct Connector {
    settings: Settings,
    base: SdkConfig,
    sources: Sources,
    clouds: Mutex<HashMap<Place, Arc<Door<AwsCloud>>>>,
    openings: Semaphore,
    budgets: Mutex<HashMap<(String, String), Arc<Budget>>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Connector {
    /// With the credentials that the environment tells of, as for every AWS tool.
    ///
    /// # Errors
    /// When the SDK refuses the settings.
    pub async fn new(settings: Settings) -> Result<Self> {
        let base = loader(&settings)?.load().await;
        Self::over(settings, base)
    }

    /// With credentials of one's own.
    ///
    /// # Errors
    /// When the SDK refuses the settings.
    pub async fn with_credentials(
        settings: Settings,
        credentials: impl ProvideCredentials + 'static,
    ) -> Result<Self> {
        let base = loader(&settings)?.credentials_provider(credentials).load().await;
        Self::over(settings, base)
    }

    fn over(settings: Settings, base: SdkConfig) -> Result<Self> {
        let sources = Sources::new(settings.source_hosts.clone(), settings.source_ca.as_deref())
            .map_err(|e| Call::new("configure", "TLS").failed(Class::Invalid, "", &e.to_string()))?;
        Ok(Self {
            settings,
            base,
            sources,
            clouds: Mutex::default(),
            openings: Semaphore::new(OPENINGS),
            budgets: Mutex::default(),
        })
    }

    /// AWS at `place`, the same for every caller.
    ///
    /// # Errors
    /// When the role cannot be assumed or the account's id cannot be had, or could not within the last seconds.
    pub async fn connect(&self, place: &Place) -> Result<AwsCloud> {
        loop {
            if let Some(opened) = self.try_connect(place).await {
                return opened;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same, without waiting for others: none while the place is being opened for another caller, or too many
    /// are. So those whose role is never assumed keep nobody waiting.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn try_connect(&self, place: &Place) -> Option<Result<AwsCloud>> {
        let door = Arc::clone(self.clouds.lock().await.entry(place.clone()).or_default());
        door.pass(&self.openings, || self.open(place)).await
    }

    async fn open(&self, place: &Place) -> Result<AwsCloud> {
        let config = self.config(place).await;
        let who = place.role_arn.as_deref().unwrap_or("the controller's own role");
        let answer = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await;
        // A role that is not assumed in time: what it was to sign was never sent.
        let was_unsigned = place.role_arn.is_some()
            && matches!(&answer, Err(SdkError::DispatchFailure(failure)) if failure.is_other());
        let call = Call::new("GetCallerIdentity", who);
        let identity = call.answer(answer).map_err(|mut error| {
            if was_unsigned {
                error.problem.operation = "AssumeRole";
            }
            error
        })?;
        let account = identity.account.ok_or_else(|| call.lacks("account"))?;
        let budget = self.budget(&account, &place.region).await;
        Ok(AwsCloud(Arc::new(Clients::new(config, place, account, budget, self.sources.clone()))))
    }

    /// The budget of an account in a region, whatever roles and endpoints share it: AWS counts their calls together.
    async fn budget(&self, account: &str, region: &str) -> Arc<Budget> {
        let key = (account.to_owned(), region.to_owned());
        let mut budgets = self.budgets.lock().await;
        let fresh = || Arc::new(Budget::per_second(self.settings.calls_per_second));
        Arc::clone(budgets.entry(key).or_insert_with(fresh))
    }

    async fn config(&self, place: &Place) -> SdkConfig {
        let region = Region::new(place.region.clone());
        let mut config = self
            .base
            .to_builder()
            .region(region.clone())
            // One for all services: a role is assumed once, not once for each of them.
            .identity_cache(IdentityCache::lazy().build());
        if let Some(role) = &place.role_arn {
            let mut assume =
                AssumeRoleProvider::builder(role).session_name(NAME).configure(&self.base).region(region);
            if let Some(id) = &place.external_id {
                assume = assume.external_id(id);
            }
            config = config.credentials_provider(SharedCredentialsProvider::new(assume.build().await));
        }
        config.build()
    }
}

fn loader(settings: &Settings) -> Result<ConfigLoader> {
    let app = AppName::new(NAME)
        .map_err(|e| Call::new("configure", "the AWS SDK").failed(Class::Invalid, "", &e.to_string()))?;
    // The region of calls is the place's; this one is for reading credentials, so nothing waits for an
    // instance's metadata.
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else("us-east-1");
    let tls = Provider::Rustls(CryptoMode::Ring);
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .app_name(app)
        .region(region)
        .http_client(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https())
        // An ambiguous failure is never repeated blindly: the next pass looks again.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(OPERATION));
    Ok(match &settings.endpoint_url {
        Some(url) => loader.endpoint_url(url),
        None => loader,
    })
}

fn timeouts(operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(operation).build()
}

/// One client for each service.
pub(super) struct Clients {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) budget: Arc<Budget>,
    pub(super) archives: Archives,
    pub(super) credits: Credits,
    pub(super) efs: aws_sdk_efs::Client,
    pub(super) lambda: aws_sdk_lambda::Client,
    /// With more time than `lambda`.
    pub(super) invoke: aws_sdk_lambda::Client,
    pub(super) ec2: aws_sdk_ec2::Client,
    pub(super) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(super) logs: aws_sdk_cloudwatchlogs::Client,
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) eventbridge: aws_sdk_eventbridge::Client,
    pub(super) sqs: aws_sdk_sqs::Client,
    /// With time for a long poll.
    pub(super) poll: aws_sdk_sqs::Client,
    /// For registries, which may be in any region.
    pub(super) config: SdkConfig,
    /// Models' sources other than S3.
    pub(super) sources: Sources,
}

impl Clients {
    fn new(config: SdkConfig, place: &Place, account: String, budget: Arc<Budget>, sources: Sources) -> Self {
        // Few servers other than AWS have a name for each bucket.
        let path_style = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(path_style).build();
        let invoke = aws_sdk_lambda::config::Builder::from(&config).timeout_config(timeouts(INVOKE)).build();
        let poll = aws_sdk_sqs::config::Builder::from(&config).timeout_config(timeouts(POLL)).build();
        Self {
            account,
            region: place.region.clone(),
            budget,
            archives: Archives::default(),
            credits: Credits::default(),
            efs: aws_sdk_efs::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            invoke: aws_sdk_lambda::Client::from_conf(invoke),
            ec2: aws_sdk_ec2::Client::new(&config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            eventbridge: aws_sdk_eventbridge::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            poll: aws_sdk_sqs::Client::from_conf(poll),
            config,
            sources,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use tokio::task::JoinSet;

    use super::super::budget::Rate;
    use super::*;
    use crate::cloud::CloudError;

    #[tokio::test]
    async fn a_storm_slows_only_its_own_account_and_region() {
        let settings = Settings { calls_per_second: 2, ..Settings::default() };
        let credentials = Credentials::new("test", "test", None, None, "tests");
        let connector = Connector::with_credentials(settings, credentials).await.unwrap();
        let here = connector.budget("111122223333", "eu-west-1").await;
        let mut storm = JoinSet::new();
        for _ in 0..20 {
            let budget = Arc::clone(&here);
            storm.spawn(async move { budget.draw(Rate::Control, &Call::new("CreateAlias", "x")).await });
        }
        tokio::task::yield_now().await;
        let draw = async |account, region| {
            let budget = connector.budget(account, region).await;
            let call = Call::new("UpdateAlias", "y");
            let drawn = budget.draw(Rate::Control, &call);
            tokio::time::timeout(Duration::from_secs(1), drawn).await.is_ok_and(|drawn| drawn.is_ok())
        };
        // The endpoints of one account and region wait for each other, those of others for none of them.
        assert!(!draw("111122223333", "eu-west-1").await);
        assert!(draw("111122223333", "us-east-1").await);
        assert!(draw("444455556666", "eu-west-1").await);
        // So it is when AWS throttles.
        let problem = CloudError::new("CreateAlias", "x", Class::Throttled, "TooManyRequestsException", "");
        here.heed::<()>(Rate::Control, Err(problem)).unwrap_err();
        assert!(!connector.budget("111122223333", "eu-west-1").await.has_room());
        assert!(connector.budget("444455556666", "us-east-1").await.has_room());
    }
}
