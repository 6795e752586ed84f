//! Debian's docker-registry, and what is pushed to it.

#![allow(dead_code, reason = "no test uses all of it")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder_contract::Digest;
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry on this machine, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`
    pub(crate) host: String,
    /// With what a push is authorised.
    pub(crate) authorization: Option<String>,
    _data: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `user` with the password `p4ssword`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuu2hRFrp4I066MRb3RN97889YsHW2pPHq\n";

impl Registry {
    /// Starts one; `is_closed` wants a user and a password.
    pub(crate) async fn start(is_closed: bool) -> Self {
        let program = std::env::var_os("LARDER_REGISTRY")
            .expect("LARDER_REGISTRY must name Debian's docker-registry; make test sets it");
        let data = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": data.path().join("registry")}},
            "http": {"addr": host},
        });
        if is_closed {
            let users = data.path().join("htpasswd");
            std::fs::write(&users, HTPASSWD).unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": users}});
        }
        let file = data.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(&program);
        command.env_clear().env("HOME", data.path()).arg("serve").arg(&file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let authorization = is_closed.then(|| "Basic dXNlcjpwNHNzd29yZA==".to_owned());
        let started = Self { child, host, authorization, _data: data };
        for _ in 0..300 {
            if tokio::net::TcpStream::connect(&started.host).await.is_ok() {
                return started;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} did not listen within 30 s", Path::new(&program).display());
    }

    async fn send(&self, method: &str, url: &str, media_type: &str, body: &[u8]) -> (u16, String) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let mut request =
            hyper::Request::builder().method(method).uri(url).header("content-type", media_type);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let answer = client.request(request).await.unwrap();
        let location = answer.headers().get("location").map(|it| it.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let said = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(status < 300, "{method} {url}: {status} {}", String::from_utf8_lossy(&said));
        (status, location.unwrap_or_default())
    }

    /// Puts a blob into `models/ocr`; answers its descriptor.
    pub(crate) async fn push_blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content).to_string();
        let url = format!("http://{}/v2/models/ocr/blobs/uploads/", self.host);
        let (_, location) = self.send("POST", &url, "application/octet-stream", b"").await;
        let mark = if location.contains('?') { '&' } else { '?' };
        let location = format!("{location}{mark}digest={digest}");
        self.send("PUT", &location, "application/octet-stream", content).await;
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Puts a manifest under a tag; answers its descriptor.
    pub(crate) async fn push_manifest(&self, tag: &str, media_type: &str, manifest: &Value) -> Value {
        let text = manifest.to_string();
        let url = format!("http://{}/v2/models/ocr/manifests/{tag}", self.host);
        self.send("PUT", &url, media_type, text.as_bytes()).await;
        let digest = Digest::of(text.as_bytes()).to_string();
        json!({"mediaType": media_type, "digest": digest, "size": text.len()})
    }

    /// Puts an artifact whose layers are these files under a tag, as `oras push` does; answers its descriptor.
    pub(crate) async fn push(&self, tag: &str, files: &[(&str, &[u8])]) -> Value {
        let mut layers = Vec::new();
        for (name, content) in files {
            let mut layer = self.push_blob("application/vnd.oci.image.layer.v1.tar", content).await;
            layer["annotations"] = json!({"org.opencontainers.image.title": name});
            layers.push(layer);
        }
        let config = self.push_blob("application/vnd.oci.empty.v1+json", b"{}").await;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.acme.model",
            "config": config,
            "layers": layers,
        });
        self.push_manifest(tag, MANIFEST, &manifest).await
    }

    /// Puts an image that buildah wrote into a folder (its `dir:` form) under a tag.
    pub(crate) async fn push_folder(&self, tag: &str, folder: &Path) {
        let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
        let read: Value = serde_json::from_slice(&manifest).unwrap();
        let layers = read["layers"].as_array().unwrap().iter();
        for descriptor in layers.chain([&read["config"]]) {
            let digest = descriptor["digest"].as_str().unwrap();
            let content = std::fs::read(folder.join(digest.trim_start_matches("sha256:"))).unwrap();
            let pushed = self.push_blob("application/octet-stream", &content).await;
            assert_eq!(pushed["digest"], digest);
        }
        let url = format!("http://{}/v2/models/ocr/manifests/{tag}", self.host);
        self.send("PUT", &url, read["mediaType"].as_str().unwrap(), &manifest).await;
    }

    /// Puts an image under a tag: each layer's media type, bytes, and what it hashes to before it is compressed.
    pub(crate) async fn push_image(&self, tag: &str, layers: &[(&str, &[u8], Digest)]) {
        let (mut descriptors, mut ids) = (Vec::new(), Vec::new());
        for (media_type, content, id) in layers {
            descriptors.push(self.push_blob(media_type, content).await);
            ids.push(id.to_string());
        }
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
        let media_type = "application/vnd.oci.image.config.v1+json";
        let config = self.push_blob(media_type, config.to_string().as_bytes()).await;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors});
        self.push_manifest(tag, MANIFEST, &manifest).await;
    }

    /// The manifest under a tag.
    pub(crate) async fn manifest(&self, tag: &str) -> String {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let url = format!("http://{}/v2/models/ocr/manifests/{tag}", self.host);
        let request = hyper::Request::get(url).header("accept", MANIFEST).body(Full::default()).unwrap();
        let answer = client.request(request).await.unwrap().into_body().collect().await.unwrap();
        String::from_utf8(answer.to_bytes().to_vec()).unwrap()
    }

    /// The address of a tag, or of `@sha256:…`.
    pub(crate) fn address(&self, pick: &str) -> String {
        let mark = if pick.starts_with("sha256:") { '@' } else { ':' };
        format!("oci://{}/models/ocr{mark}{pick}", self.host)
    }
}
