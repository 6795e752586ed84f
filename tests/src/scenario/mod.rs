//! The main job's setting, for end-to-end tests and the demo: a stack that runs the real functions, the
//! CRD applied, real OCR models, images in the registry, and real `larder run` processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aws_sdk_s3::types::CreateBucketConfiguration;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, Request};
use kube::Api;
use larder_crds::InferenceEndpoint;
use serde_json::json;

use crate::stack::http::{client, whole};
use crate::stack::process::Launch;
use crate::stack::{
    ACCESS_KEY, ACCOUNT, FunctionProgram, Options, REGION, SECRET_KEY, Stack, Timings, ports,
};

mod endpoints;
mod parts;

pub use endpoints::{small_endpoint, tensor};
pub use parts::{Answer, Controller, FileServer};

/// The namespace of the endpoints.
pub const NAMESPACE: &str = "vision";
/// The bucket of the models.
pub const BUCKET: &str = "acme-models";
/// The tag of both images.
pub const TAG: &str = "0.1.0";

/// Two generations of the PP-OCR models, both read by the same pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ocr {
    /// PP-OCRv4, of the PyPI package `rapidocr_onnxruntime`.
    V4,
    /// PP-OCRv6, of the PyPI package `rapidocr`.
    V6,
}

/// A running setting.
#[derive(Debug)]
pub struct Scenario {
    /// What it runs on.
    pub stack: Stack,
    packages: PathBuf,
}

impl Scenario {
    /// Starts the stack, applies the CRD, makes bucket, registry and namespace.
    ///
    /// # Errors
    /// When a part does not come up; the message says which.
    pub async fn start(timings: Timings) -> Result<Self> {
        let packages = packages().await?;
        let library = packages.join("onnxruntime/capi/libonnxruntime.so.1.32.0");
        ensure!(library.is_file(), "{} is missing: run make tools", library.display());
        let mut inference = FunctionProgram::new("larder-inference", binary("larder-inference")?);
        inference.env.insert("ORT_DYLIB_PATH".to_owned(), library.display().to_string());
        let sync = FunctionProgram::new("larder-model-sync", binary("larder-model-sync")?);
        let mut zipped = inference.clone();
        "larder-vision-zipped".clone_into(&mut zipped.matches);
        let options =
            Options { timings, ..Options::default() }.program(inference).program(sync).program(zipped);
        let stack = Stack::start(options).await?;
        let scenario = Self { stack, packages };
        scenario.install().await?;
        scenario.make_bucket(BUCKET).await?;
        for repository in ["larder-inference", "larder-model-sync"] {
            let ecr = scenario.stack.ecr();
            ecr.create_repository().repository_name(repository).send().await.context("CreateRepository")?;
            scenario.push(repository, TAG, "first").await?;
        }
        Ok(scenario)
    }

    /// Applies the CRD and makes the namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn install(&self) -> Result<()> {
        let crd = repository().join("crds/inferenceendpoints.larder.dev.yaml");
        self.kubectl(&["apply", "--server-side", "-f", &crd.display().to_string()]).await?;
        let established = "--for=condition=Established";
        self.kubectl(&["wait", established, "--timeout=20s", "crd/inferenceendpoints.larder.dev"]).await?;
        self.kubectl(&["create", "namespace", NAMESPACE]).await?;
        Ok(())
    }

    /// Runs kubectl and gives what it prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.stack.kubectl(args).await?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes a bucket in the stack's region.
    ///
    /// # Errors
    /// When it exists, say.
    pub async fn make_bucket(&self, name: &str) -> Result<()> {
        let place = CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
        let create = self.stack.s3().create_bucket().bucket(name).create_bucket_configuration(place);
        create.send().await.context("CreateBucket")?;
        Ok(())
    }

    /// Tags an image. It has no layers: the function host runs the built binary in its place; `build`
    /// makes its digest another one.
    ///
    /// # Errors
    /// When the registry refuses.
    pub async fn push(&self, repository: &str, tag: &str, build: &str) -> Result<()> {
        let digest = larder_contract::Digest::of(format!("{repository} {build}").as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest},
            "layers": [],
        });
        let put = self.stack.ecr().put_image().repository_name(repository).image_tag(tag);
        put.image_manifest(manifest.to_string()).send().await.context("PutImage")?;
        Ok(())
    }

    /// Uploads the detection and recognition models under a prefix, and gives their bytes.
    ///
    /// # Errors
    /// When a file is missing or the upload fails.
    pub async fn upload(&self, prefix: &str, ocr: Ocr) -> Result<u64> {
        let mut bytes = 0;
        for (name, path) in self.models(ocr) {
            let body = tokio::fs::read(&path).await.with_context(|| path.display().to_string())?;
            bytes += body.len() as u64;
            let put = self.stack.s3().put_object().bucket(BUCKET).key(format!("{prefix}{name}"));
            put.body(body.into()).send().await.context("PutObject")?;
        }
        Ok(bytes)
    }

    /// The model files of a generation, each with the name that it gets.
    #[must_use]
    pub fn models(&self, ocr: Ocr) -> [(&'static str, PathBuf); 2] {
        let (det, rec) = match ocr {
            Ocr::V4 => (
                "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
                "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            ),
            Ocr::V6 => ("rapidocr/models/PP-OCRv6_det_small.onnx", "rapidocr/models/PP-OCRv6_rec_small.onnx"),
        };
        [("det.onnx", self.packages.join(det)), ("rec.onnx", self.packages.join(rec))]
    }

    /// Draws a picture of a bilingual street sign.
    ///
    /// # Errors
    /// When the script fails, with what it says.
    pub async fn draw_sign(&self, name: &str, english: &str, chinese: &str) -> Result<PathBuf> {
        let out = self.stack.dir().join(name);
        let script = repository().join("tests/pictures/draw.py");
        let path = |p: &Path| p.display().to_string();
        let args = [&path(&script), "sign", &path(&out), "--english", english, "--chinese", chinese];
        let output = tokio::process::Command::new(&self.stack.tools().python)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .kill_on_drop(true)
            .output()
            .await
            .context("the script that draws the sign cannot be run")?;
        ensure!(output.status.success(), "draw.py: {}", String::from_utf8_lossy(&output.stderr));
        Ok(out)
    }

    /// Serves a folder over plain HTTP on loopback, for links to pictures.
    ///
    /// # Errors
    /// When the server does not come up.
    pub async fn serve_files(&self, dir: &Path) -> Result<FileServer> {
        let port = ports::free()?;
        let log = self.stack.logs_dir().join("pictures.log");
        let mut program = Launch::new("the picture server", &self.stack.tools().python, dir, log)
            .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()])
            .start()
            .await?;
        let url = format!("http://127.0.0.1:{port}/");
        program.ready(Duration::from_secs(20), || crate::stack::http::answers(&url)).await?;
        Ok(FileServer { url, _program: program })
    }

    /// The environment of a `larder` process.
    #[must_use]
    pub fn larder_env(&self) -> Vec<(String, String)> {
        let pairs = [
            ("KUBECONFIG", self.stack.kubeconfig().display().to_string()),
            ("AWS_ENDPOINT_URL", self.stack.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("LARDER_SYNC_CODE", format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/larder-model-sync:{TAG}")),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// Starts a controller, and waits until it is ready: it leads, or stands by.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn controller(&self, name: &str, args: &[&str]) -> Result<Controller> {
        self.controller_as(name, self.stack.kubeconfig(), args).await
    }

    /// [`Scenario::controller`], with another kubeconfig than the administrator's.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn controller_as(&self, name: &str, kubeconfig: &Path, args: &[&str]) -> Result<Controller> {
        let port = ports::free()?;
        let health = SocketAddr::from(([127, 0, 0, 1], port));
        let log = self.stack.logs_dir().join(format!("{name}.log"));
        let mut program = Launch::new(name, &binary("larder")?, self.stack.dir(), log.clone())
            .args(["run", "--listen", &health.to_string(), "--identity", name, "--calls-per-second", "100"])
            .args(args.iter().copied())
            .env(self.larder_env())
            .env([("KUBECONFIG", kubeconfig.display().to_string())])
            .start()
            .await?;
        let ready = format!("http://{health}/readyz");
        program.ready(Duration::from_secs(20), || crate::stack::http::answers(&ready)).await?;
        Ok(Controller { program, health, log })
    }

    /// Runs `larder plan` on a file or folder; gives its exit code and what it prints.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn plan(&self, file: &Path, args: &[&str]) -> Result<(i32, String)> {
        let file = file.display().to_string();
        self.larder(&[&["plan", "-f", &file], args].concat()).await
    }

    /// Runs `larder`; gives its exit code and what it prints, standard output first.
    ///
    /// # Errors
    /// When it cannot be run, or does not end within a minute.
    pub async fn larder(&self, args: &[&str]) -> Result<(i32, String)> {
        let run = tokio::process::Command::new(binary("larder")?)
            .args(args)
            .env_clear()
            .envs(self.larder_env())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(Duration::from_mins(1), run).await;
        let output = ended.context("larder does not end")?.context("larder cannot be run")?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// The endpoints of [`NAMESPACE`].
    #[must_use]
    pub fn endpoints(&self) -> Api<InferenceEndpoint> {
        Api::namespaced(self.stack.kube(), NAMESPACE)
    }

    /// Gets a text.
    ///
    /// # Errors
    /// When there is no answer, or it is another status than 200.
    pub async fn get(&self, url: &str) -> Result<String> {
        let request = Request::get(url).body(whole(Bytes::new())).context("the request cannot be made")?;
        let answer = tokio::time::timeout(Duration::from_secs(10), client().request(request))
            .await
            .with_context(|| format!("no answer from {url} in 10 s"))?
            .with_context(|| format!("no answer from {url}"))?;
        ensure!(answer.status() == 200, "{url} answers {}", answer.status());
        let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Posts to a function URL as AWS gave it.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, url: &str, path: &str, content_type: &str, body: Bytes) -> Result<Answer> {
        let to = format!("{}{}", self.stack.function_url(url), path.trim_start_matches('/'));
        let request = Request::builder()
            .method(Method::POST)
            .uri(&to)
            .header("content-type", content_type)
            .body(whole(body))
            .context("the request cannot be made")?;
        let answer = tokio::time::timeout(Duration::from_mins(1), client().request(request))
            .await
            .with_context(|| format!("no answer from {to} in 60 s"))?
            .with_context(|| format!("no answer from {to}"))?;
        let status = answer.status();
        let version = answer
            .headers()
            .get("x-larder-version")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
        Ok(Answer { status, version, body })
    }
}

/// The condition of a type: its status, reason and message.
#[must_use]
pub fn condition(endpoint: &InferenceEndpoint, type_: &str) -> Option<(String, String, String)> {
    let status = endpoint.status.as_ref()?;
    let condition = status.conditions.iter().find(|c| c.type_ == type_)?;
    Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A program of the workspace, built beside the one that runs.
fn binary(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("this program's own path")?;
    let path = exe.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    path.with_context(|| format!("{name} is not built: run cargo build --workspace"))
}

/// The folder of the Python packages that hold the models and the ONNX Runtime library.
async fn packages() -> Result<PathBuf> {
    let tools = crate::stack::Tools::find()?;
    let output = tokio::process::Command::new(&tools.python)
        .args(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
        .env_clear()
        .output()
        .await
        .context("the Python environment cannot be asked")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
