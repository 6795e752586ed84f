//! Which cluster the arguments name, and a client of it.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::args::Cluster;

/// A client of the cluster that the arguments name.
///
/// # Errors
/// When there is no such kubeconfig or context.
pub async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let config = config(cluster).await?;
    Client::try_from(config).context("the cluster cannot be reached: check the kubeconfig")
}

/// Where the cluster is, and who asks it. Without a kubeconfig it is the one that the Pod runs in.
async fn config(cluster: &Cluster) -> anyhow::Result<Config> {
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    let config = match &cluster.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("{} cannot be read as a kubeconfig", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None if cluster.context.is_some() => Config::from_kubeconfig(&options).await,
        None => {
            return Config::infer().await.context("the cluster cannot be reached: check the kubeconfig");
        }
    };
    config.with_context(|| match &cluster.context {
        Some(context) => {
            format!("the kubeconfig has no usable context {context}: see kubectl config get-contexts")
        }
        None => "the kubeconfig has no usable current context: write --context".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const TWO: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [
            {"name": "one", "cluster": {"server": "http://127.0.0.1:1001"}},
            {"name": "two", "cluster": {"server": "http://127.0.0.1:1002"}}
        ],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [
            {"name": "a", "context": {"cluster": "one", "user": "me"}},
            {"name": "b", "context": {"cluster": "two", "user": "me", "namespace": "vision"}}
        ]}"#;

    async fn asked(context: Option<&str>) -> anyhow::Result<(String, String)> {
        let path = std::env::temp_dir().join(format!("larder-{:016x}", fastrand::u64(..)));
        std::fs::write(&path, TWO)?;
        let cluster = Cluster { kubeconfig: Some(path.clone()), context: context.map(str::to_owned) };
        let config = config(&cluster).await;
        std::fs::remove_file(path)?;
        let config = config?;
        Ok((config.cluster_url.to_string(), config.default_namespace))
    }

    #[tokio::test]
    async fn the_context_says_which_cluster_and_namespace() {
        let one = ("http://127.0.0.1:1001/".to_owned(), "default".to_owned());
        assert_eq!(asked(None).await.unwrap(), one);
        assert_eq!(asked(Some("a")).await.unwrap(), one);
        let two = ("http://127.0.0.1:1002/".to_owned(), "vision".to_owned());
        assert_eq!(asked(Some("b")).await.unwrap(), two);
    }

    #[tokio::test]
    async fn a_context_or_file_that_is_not_there_is_named() {
        let error = asked(Some("c")).await.unwrap_err();
        assert!(error.to_string().contains("no usable context c"), "{error}");
        let nowhere = Cluster { kubeconfig: Some(PathBuf::from("/nowhere/config")), context: None };
        let error = config(&nowhere).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/config cannot be read"), "{error}");
    }
}
