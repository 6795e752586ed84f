//! etcd and kube-apiserver: real admission, CEL, watches, status and RBAC.
//!
//! Deliberately absent: a controller manager, a scheduler and nodes. Objects are stored and watched, but
//! no pod runs, no garbage is collected, and a deleted namespace stays `Terminating`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::error::StackError;
use super::process::{Launch, Program};
use super::tools::Tools;
use super::{http, ports};

/// The API server's readiness, on a machine that builds something else at the same time.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// How often a start is tried: ports that were free may be taken.
const ATTEMPTS: usize = 3;

/// A cluster that answers.
pub(crate) struct Kubernetes {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) client: kube::Client,
    // The API server first: it complains when its store goes before it.
    apiserver: Program,
    etcd: Program,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Starts both in `dir` and waits until the API server is ready and has made its namespaces.
    pub(crate) async fn start(tools: &Tools, dir: &Path, logs: &Path) -> Result<Self, StackError> {
        std::fs::create_dir_all(dir).map_err(StackError::io(format!("make {}", dir.display())))?;
        let secrets = Secrets::write(dir)?;
        let mut attempt = 1;
        loop {
            match Self::attempt(tools, dir, logs, &secrets).await {
                Err(StackError::Ended { .. }) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(tools: &Tools, dir: &Path, logs: &Path, secrets: &Secrets) -> Result<Self, StackError> {
        let (client_port, peer_port, api_port) = (ports::free()?, ports::free()?, ports::free()?);
        let store = format!("http://127.0.0.1:{client_port}");
        let peers = format!("http://127.0.0.1:{peer_port}");
        let data = dir.join(format!("etcd-{client_port}"));
        let mut etcd = Launch::new("etcd", &tools.assets.join("etcd"), dir, logs.join("etcd.log"))
            .args([
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={store}"),
                format!("--advertise-client-urls={store}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                // The data dies with the test; waiting for the disk would only make it slow.
                "--unsafe-no-fsync".to_owned(),
            ])
            .start()
            .await?;
        let health = format!("{store}/health");
        etcd.ready(READY_WITHIN, || http::answers(&health)).await?;

        let file = |name: &str| dir.join(name).display().to_string();
        let mut apiserver = Launch::new(
            "kube-apiserver",
            &tools.assets.join("kube-apiserver"),
            dir,
            logs.join("kube-apiserver.log"),
        )
        .args([
            format!("--etcd-servers={store}"),
            format!("--secure-port={api_port}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--cert-dir={}", dir.display()),
        ])
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.96.0.0/16",
            // No controller makes the default account of a namespace, so nothing may wait for it.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ])
        .start()
        .await?;
        let kubeconfig = dir.join("kubeconfig");
        let text = secrets.kubeconfig(&format!("https://127.0.0.1:{api_port}"));
        std::fs::write(&kubeconfig, text)
            .map_err(StackError::io(format!("write {}", kubeconfig.display())))?;
        let client = client(&kubeconfig).await?;
        let namespaces = kube::Api::<Namespace>::all(client.clone());
        apiserver
            .ready(READY_WITHIN, || async {
                let question = hyper::Request::get("/readyz").body(Vec::new());
                let ready = match question {
                    Ok(question) => client.request_text(question).await.is_ok(),
                    Err(_) => false,
                };
                ready && namespaces.get("default").await.is_ok()
            })
            .await?;
        Ok(Self { kubeconfig, client, apiserver, etcd })
    }

    /// Process ids of both.
    pub(crate) fn pids(&self) -> Vec<u32> {
        [&self.apiserver, &self.etcd].into_iter().filter_map(Program::id).collect()
    }

    /// Ends both in order.
    pub(crate) async fn stop(self) {
        self.apiserver.stop().await;
        self.etcd.stop().await;
    }
}

/// A client from a kubeconfig file, deaf to the environment.
async fn client(path: &Path) -> Result<kube::Client, StackError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StackError::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(error.into()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(error.into()))?;
    kube::Client::try_from(config).map_err(|error| failed(error.into()))
}

/// What lets a client trust the server, and the server know its administrator.
struct Secrets {
    authority: String,
    token: String,
}

impl Secrets {
    /// Makes an authority, a server certificate, a key for service account tokens and the token file.
    fn write(dir: &Path) -> Result<Self, StackError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority = params.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(params, authority_key);
        let accounts = KeyPair::generate()?;
        let server_key = KeyPair::generate()?;
        let server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?
            .signed_by(&server_key, &issuer)?;
        // A fresh key's fingerprint is as secret as the key, and this server listens on loopback only.
        let token = format!("{:x?}", &KeyPair::generate()?.serialize_der()[36..52])
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>();
        for (name, text) in [
            ("server.crt", server.pem()),
            ("server.key", server_key.serialize_pem()),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("tokens.csv", format!("{token},admin,admin,system:masters\n")),
        ] {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(StackError::io(format!("write {}", path.display())))?;
        }
        Ok(Self { authority, token })
    }

    /// JSON, which every reader of YAML takes.
    fn kubeconfig(&self, server: &str) -> String {
        let authority = STANDARD.encode(&self.authority);
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stack", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "stack", "context": {"cluster": "stack", "user": "admin", "namespace": "default"}}],
            "current-context": "stack",
        })
        .to_string()
    }
}
