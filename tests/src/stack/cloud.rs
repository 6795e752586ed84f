//! AWS as far as it runs here: the emulator, the proxy in front of it, and the function host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_config::SdkConfig;
use tokio::net::TcpListener;

use super::error::StackError;
use super::host::Host;
use super::leftovers::{self, Leftover};
use super::ministack::MiniStack;
use super::proxy::fault::Rule;
use super::proxy::{Calls, Proxy};
use super::tools::Tools;
use super::{Options, Stack, aws, started};

/// How the operations begin that change nothing. A function that is invoked makes calls of its own.
const READS: [&str; 8] = ["Assume", "BatchGet", "Describe", "Get", "Head", "Invoke", "List", "Receive"];

/// AWS, as far as it runs.
#[derive(Debug)]
pub(super) struct Cloud {
    // The proxy first: what it forwards to must not go before it.
    pub(super) proxy: Proxy,
    pub(super) host: Option<Arc<Host>>,
    pub(super) ministack: MiniStack,
    config: SdkConfig,
}

impl Cloud {
    pub(super) async fn start(
        tools: &Tools,
        dir: &Path,
        logs: &Path,
        options: &Options,
    ) -> Result<Self, StackError> {
        let ministack = MiniStack::start(tools, &dir.join("ministack"), logs).await?;
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.map_err(StackError::io("bind the proxy's port"))?;
        let address = listener.local_addr().map_err(StackError::io("read the proxy's address"))?;
        let endpoint = format!("http://{address}");
        let host = (!options.programs.is_empty())
            .then(|| Arc::new(Host::new(options.programs.clone(), endpoint.clone(), &dir.join("efs"), logs)));
        let proxy = Proxy::start(listener, ministack.address, options.timings, host.clone())?;
        Ok(Self { proxy, host, ministack, config: aws::config(&endpoint) })
    }
}

impl Stack {
    /// The AWS endpoint: the proxy's address.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.cloud().proxy.address)
    }

    /// The emulator's own address: calls are not counted, no fault strikes, and AWS's own behaviour is missing.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn emulator(&self) -> String {
        format!("http://{}", self.cloud().ministack.address)
    }

    /// How many calls of a function had to wait for a sandbox to start.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn cold_starts(&self, function: &str) -> u64 {
        self.cloud().host.as_ref().map_or(0, |host| host.cold_starts(function))
    }

    /// Settings for any AWS SDK client, pointing at the proxy.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn aws(&self) -> &SdkConfig {
        &self.cloud().config
    }

    /// A client of S3.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(self.aws()).force_path_style(true).build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// A client of Lambda.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(self.aws())
    }

    /// A client of Amazon `EventBridge`.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(self.aws())
    }

    /// A client of SQS.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(self.aws())
    }

    /// A client of EFS.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn efs(&self) -> aws_sdk_efs::Client {
        aws_sdk_efs::Client::new(self.aws())
    }

    /// A client of ECR.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn ecr(&self) -> aws_sdk_ecr::Client {
        aws_sdk_ecr::Client::new(self.aws())
    }

    /// A client of CloudWatch Logs.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(self.aws())
    }

    /// A client of EC2.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn ec2(&self) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(self.aws())
    }

    /// Makes calls go wrong from now on.
    ///
    /// # Panics
    /// When AWS was left out.
    pub fn inject(&self, rule: Rule) {
        self.cloud().proxy.inject(rule);
    }

    /// Ends every rule.
    ///
    /// # Panics
    /// When AWS was left out.
    pub fn clear_faults(&self) {
        self.cloud().proxy.clear_faults();
    }

    /// How many faults have struck since the start.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn fault_hits(&self) -> u64 {
        self.cloud().proxy.fault_hits()
    }

    /// Every call since the start or the last [`Stack::clear_calls`], as seen on the wire.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.cloud().proxy.calls()
    }

    /// How many calls of one operation there were, whatever their status.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn count(&self, service: &str, operation: &str) -> u64 {
        self.calls()
            .iter()
            .filter(|((s, o, _), _)| s == service && o == operation)
            .map(|(_, count)| count)
            .sum()
    }

    /// Every call by which something in AWS may have changed since the start or the last [`Stack::clear_calls`].
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn writes(&self) -> Calls {
        let mut calls = self.calls();
        calls.retain(|(_, operation, _), _| !READS.iter().any(|read| operation.starts_with(read)));
        calls
    }

    /// Starts counting anew.
    ///
    /// # Panics
    /// When AWS was left out.
    pub fn clear_calls(&self) {
        self.cloud().proxy.clear_calls();
    }

    /// Where plain HTTP reaches a function URL that AWS gave as `https://<id>.lambda-url.…/`.
    ///
    /// # Panics
    /// When AWS was left out.
    #[must_use]
    pub fn function_url(&self, url: &str) -> String {
        let id = url.trim_start_matches("https://").split('.').next().unwrap_or_default();
        format!("{}/_aws/lambda-url/{id}/", self.endpoint())
    }

    /// The folder that stands for an access point; functions find it as `LARDER_ROOT`.
    ///
    /// # Panics
    /// When AWS or function programs were left out.
    #[must_use]
    pub fn access_point_dir(&self, id: &str) -> PathBuf {
        started(self.cloud().host.as_ref(), "the function host").access_point(id)
    }

    /// Every AWS resource that is Larder's by tag or name, or hangs on one that is. Asked of the emulator
    /// itself: not counted, and no fault strikes it.
    ///
    /// # Errors
    /// When the emulator does not answer.
    ///
    /// # Panics
    /// When AWS was left out.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, StackError> {
        let cloud = self.cloud();
        let config = aws::config(&format!("http://{}", cloud.ministack.address));
        leftovers::list(&config, cloud.proxy.capacities()).await
    }

    fn cloud(&self) -> &Cloud {
        started(self.cloud.as_ref(), "AWS")
    }
}
