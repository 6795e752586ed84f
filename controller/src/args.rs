//! The command line.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use larder_contract::layout::MAX_SOURCE_CA;
use larder_core::Defaults;
use larder_core::endpoint::{CodeRef, ImageRef};
use larder_core::plan::spread::WORKER_RATE;
use larder_core::tenants::RolePolicy;

use crate::cloud::aws::Settings;
use crate::scope::Scope;

/// Serves machine-learning models from AWS Lambda and Amazon EFS.
#[derive(Debug, Parser)]
#[command(version, name = "larder")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller.
    Run(Run),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Print the steps that the controller would take for endpoints, and change nothing.
    ///
    /// Exit code 0: there is nothing to do; 2: there is; 1: it could not be found out.
    Plan(Plan),
    /// Print why endpoints are ready or not, as a tree, with the AWS calls that tell so.
    ///
    /// Exit code 0: they are ready; 2: they are not; 1: it could not be found out.
    Explain(Explain),
    /// Send all requests to the newest version as soon as it is warm, without the rest of its rollout.
    Promote(RolloutTarget),
    /// Send all requests to an older version, and reject those that are newer.
    Rollback(Rollback),
    /// Roll out again what was taken back or rejected.
    Retry(RolloutTarget),
    /// Hold rollouts where they are.
    Pause(RolloutTarget),
    /// Let rollouts go on.
    Resume(RolloutTarget),
}

/// An InferenceEndpoint whose rollout is spoken of.
#[derive(Debug, Clone, Args)]
pub struct RolloutTarget {
    /// The InferenceEndpoint.
    pub name: String,
    /// Its namespace; that of the kubeconfig's context when absent.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Send all requests to an older version.
#[derive(Debug, Clone, Args)]
pub struct Rollback {
    /// Whose.
    #[command(flatten)]
    pub target: RolloutTarget,
    /// The version. When absent: the one that serves, where a newer one is on its way; else the newest that is
    /// older than it.
    #[arg(long)]
    pub to: Option<u64>,
}

/// Where AWS is, and what the objects leave to the controller.
#[derive(Debug, Clone, Args)]
pub struct Shared {
    /// This cluster's id in the owner tags of AWS resources; the UID of namespace kube-system when absent.
    #[arg(long, env = "LARDER_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// The region of endpoints that name none.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// The model-sync function's code: an image in ECR, or `s3://BUCKET/KEY` of a zip archive.
    #[arg(long, env = "LARDER_SYNC_CODE", value_parser = code)]
    pub sync_code: CodeRef,
    /// A host of models' sources that may have a private address, as HOST or HOST:PORT; may be given more than
    /// once. Others than S3 are read from the public Internet only.
    #[arg(long, env = "LARDER_ALLOW_SOURCE_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub allow_source_host: Vec<String>,
    /// A file of certificate authorities in PEM that models' sources may have their certificates from, beside the
    /// public ones; up to 3,000 bytes, because model-sync gets them in its environment.
    #[arg(long, env = "LARDER_SOURCE_CA_FILE", value_name = "FILE", value_parser = authorities)]
    pub source_ca: Option<String>,
    /// Bytes that one invocation of model-sync is taken to copy in a second. What one cannot copy in half of its time
    /// is shared among several.
    #[arg(long, default_value_t = WORKER_RATE, value_parser = clap::value_parser!(u64).range(1..))]
    pub sync_bytes_per_second: u64,
    /// AWS control-plane calls a second, for each account and region.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub calls_per_second: u32,
}

impl Shared {
    /// How AWS and the models' sources are spoken to.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            calls_per_second: self.calls_per_second,
            source_hosts: self.allow_source_host.clone(),
            source_ca: self.source_ca.clone(),
            ..Settings::default()
        }
    }

    /// This cluster's id: as it is written, or else asked for.
    ///
    /// # Errors
    /// When it is not written and cannot be read.
    pub async fn cluster(&self, kube: &kube::Client) -> anyhow::Result<String> {
        match &self.cluster_id {
            Some(id) => Ok(id.clone()),
            None => crate::run::cluster_id(kube).await.context(
                "the cluster's id cannot be read: allow get of namespace kube-system, or write --cluster-id",
            ),
        }
    }

    /// What the objects leave to the controller, in the cluster with this id.
    #[must_use]
    pub fn defaults(&self, cluster: String) -> Defaults {
        Defaults {
            cluster,
            scope: None,
            region: self.region.clone(),
            sync_code: self.sync_code.clone(),
            source_hosts: self.allow_source_host.clone(),
            source_ca: self.source_ca.clone(),
            sync_bytes_per_second: self.sync_bytes_per_second,
        }
    }
}

/// Reads the file of `--source-ca`.
fn authorities(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    if text.len() > MAX_SOURCE_CA {
        let (is, most) = (text.len(), MAX_SOURCE_CA);
        return Err(format!(
            "it has {is} bytes, and {most} are the most: leave only what the sources need in it"
        ));
    }
    Ok(text)
}

/// Reads `--sync-code`.
fn code(text: &str) -> Result<CodeRef, String> {
    if let Some(place) = text.strip_prefix("s3://") {
        let (bucket, key) = place
            .split_once('/')
            .filter(|(_, key)| !key.is_empty())
            .ok_or_else(|| format!("{text} names no key: write s3://BUCKET/KEY"))?;
        return Ok(CodeRef::Zip { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None });
    }
    ImageRef::parse(text).map(CodeRef::Image).ok_or_else(|| {
        format!("{text} is neither s3://BUCKET/KEY nor ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG")
    })
}

/// Run the controller.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Where AWS is.
    #[command(flatten)]
    pub shared: Shared,
    /// Which cluster; the one that it runs in, in a Pod.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Watch this namespace only; may be given more than once.
    #[arg(long, value_delimiter = ',')]
    pub namespace: Vec<String>,
    /// Watch endpoints with these labels only, as in `kubectl get --selector`. Controllers with other selectors or
    /// namespaces have other Leases, and share the work.
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Which roles endpoints may name: any, or those that the annotation larder.dev/allowed-roles of their
    /// Namespace names.
    #[arg(long, env = "LARDER_ROLE_POLICY", value_enum, default_value_t = Roles::Any)]
    pub role_policy: Roles,
    /// Where /healthz, /readyz and /metrics answer.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Endpoints that are worked on at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Work without a Lease. Only where a second controller can never be started.
    #[arg(long)]
    pub no_leader_election: bool,
    /// The namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// Seconds after which a Lease that is not renewed is free.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(i32).range(3..=300))]
    pub lease_seconds: i32,
    /// This process's name in the Lease and in Events; made up when absent.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
}

/// Which roles endpoints may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Roles {
    /// Any that AWS lets the controller use.
    Any,
    /// Those that their Namespace names.
    Annotated,
}

impl From<Roles> for RolePolicy {
    fn from(roles: Roles) -> Self {
        match roles {
            Roles::Any => Self::Any,
            Roles::Annotated => Self::Annotated,
        }
    }
}

impl Run {
    /// Which endpoints it works on.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { namespaces: self.namespace.iter().cloned().collect(), selector: self.selector.clone() }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which cluster, as for `kubectl`.
#[derive(Debug, Clone, Default, Args)]
pub struct Cluster {
    /// The kubeconfig; that of KUBECONFIG or ~/.kube/config when absent.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one when absent.
    #[arg(long)]
    pub context: Option<String>,
}

/// Print the steps that the controller would take.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// Where AWS is.
    #[command(flatten)]
    pub shared: Shared,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// A file of YAML or JSON with endpoints, a folder of such files, or - for standard input; may be
    /// given more than once. Objects of other kinds are passed over.
    #[arg(short, long = "file", alias = "filename", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// The namespace, where a file names none.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// As the controller is told: any role, or those that the annotation larder.dev/allowed-roles of a Namespace names.
    #[arg(long, env = "LARDER_ROLE_POLICY", value_enum, default_value_t = Roles::Any)]
    pub role_policy: Roles,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = PlanOutput::Text)]
    pub output: PlanOutput,
    /// When to colour.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    pub color: Colour,
}

/// What `larder plan` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanOutput {
    /// For a terminal.
    Text,
    /// For a pull request's comment.
    Markdown,
}

/// Print why endpoints are ready or not.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The endpoints' names.
    #[arg(required_unless_present = "files")]
    pub names: Vec<String>,
    /// The namespace; that of the kubeconfig's context when absent.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// A file of YAML or JSON that names endpoints, a folder of such files, or - for standard input; may be
    /// given more than once.
    #[arg(short, long = "file", alias = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Explain from the objects' status alone; AWS is not asked.
    #[arg(long)]
    pub offline: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = ExplainOutput::Text)]
    pub output: ExplainOutput,
    /// When to colour.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    pub color: Colour,
    /// This cluster's id, as for the controller.
    #[arg(long, env = "LARDER_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// The region of endpoints that name none.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// The model-sync function's code, as for the controller. Without it, AWS is not asked.
    #[arg(long, env = "LARDER_SYNC_CODE", value_parser = code)]
    pub sync_code: Option<CodeRef>,
    /// Hosts of models' sources that may have a private address, as for the controller.
    #[arg(long, env = "LARDER_ALLOW_SOURCE_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub allow_source_host: Vec<String>,
    /// Certificate authorities of models' sources, as for the controller.
    #[arg(long, env = "LARDER_SOURCE_CA_FILE", value_name = "FILE", value_parser = authorities)]
    pub source_ca: Option<String>,
    /// AWS control-plane calls a second, for each account and region.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub calls_per_second: u32,
}

impl Explain {
    /// Where AWS is and what the objects leave to the controller; none when the sync code is not known.
    #[must_use]
    pub fn shared(&self) -> Option<Shared> {
        Some(Shared {
            cluster_id: self.cluster_id.clone(),
            region: self.region.clone(),
            sync_code: self.sync_code.clone()?,
            allow_source_host: self.allow_source_host.clone(),
            source_ca: self.source_ca.clone(),
            sync_bytes_per_second: WORKER_RATE,
            calls_per_second: self.calls_per_second,
        })
    }
}

/// What `larder explain` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainOutput {
    /// A tree.
    Text,
    /// An array with an object for each endpoint.
    Json,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether standard output is coloured.
    #[must_use]
    pub fn is_wanted(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_asks_the_api_server_is_told_which_one() {
        let code = "s3://b/k";
        for command in [
            &["run", "--sync-code", code][..],
            &["plan", "--sync-code", code, "-f", "x"],
            &["explain", "signs"],
            &["promote", "signs"],
            &["rollback", "signs"],
            &["retry", "signs"],
            &["pause", "signs"],
            &["resume", "signs"],
        ] {
            let words = ["larder"].iter().chain(command).chain(&["--kubeconfig", "f", "--context", "c"]);
            let cluster = match Cli::try_parse_from(words).unwrap().command {
                Command::Run(it) => it.cluster,
                Command::Plan(it) => it.cluster,
                Command::Explain(it) => it.cluster,
                Command::Rollback(it) => it.target.cluster,
                Command::Promote(it) | Command::Retry(it) | Command::Pause(it) | Command::Resume(it) => {
                    it.cluster
                }
                Command::Crd => unreachable!("it asks nobody"),
            };
            assert_eq!(cluster.kubeconfig, Some(PathBuf::from("f")), "{command:?}");
            assert_eq!(cluster.context.as_deref(), Some("c"), "{command:?}");
        }
    }

    #[test]
    fn sync_code_is_an_image_or_an_archive() {
        assert!(
            matches!(code("s3://b/k/x.zip"), Ok(CodeRef::Zip { bucket, key, .. }) if bucket == "b" && key == "k/x.zip")
        );
        assert!(matches!(code("1.dkr.ecr.eu-west-1.amazonaws.com/r/s:1"), Ok(CodeRef::Image(_))));
        for bad in ["s3://b", "s3://b/", "docker.io/x:1", "x"] {
            assert!(code(bad).is_err(), "{bad}");
        }
    }
}
