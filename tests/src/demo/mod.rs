//! `make demo`: the main job, live.
//!
//! - [`screen`]: what is printed: headings, progress, the table of times.
//! - [`watch`]: shows an endpoint as it converges.
//! - [`clients`]: people who post pictures all the time.

pub mod clients;
pub mod screen;
pub mod watch;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use larder_crds::InferenceEndpoint;
use serde_json::json;

use self::clients::Clients;
use self::screen::Screen;
use crate::scenario::{BUCKET, Controller, FileServer, NAMESPACE, Ocr, Scenario, TAG, repository};
use crate::stack::{Fault, Rule, Timings, When};

const ENGLISH: &str = "Harbour Road";
const CHINESE: &str = "海港路";
const PREFIX: &str = "ocr/pp-ocr/";

/// The longest that any one step may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is up while the demo runs. Dropping it ends everything that it started.
#[derive(Debug)]
pub struct Demo {
    // Before the stack that they run on.
    controller: Option<Controller>,
    pictures: FileServer,
    scenario: Scenario,
}

/// Runs the main job and prints what happens. What is still up is given back.
///
/// # Errors
/// When any step does not do what it should; the message says which and what was seen.
pub async fn run(screen: &mut Screen) -> Result<Demo> {
    let scenario = screen
        .step(
            "etcd, kube-apiserver, CRD, MiniStack, function host",
            Box::pin(Scenario::start(Timings::default())),
        )
        .await?;
    screen.note(&format!("AWS on the wire at {}", scenario.stack.endpoint()));
    let upload = Box::pin(scenario.upload(PREFIX, Ocr::V4));
    let bytes = screen.step("PP-OCRv4 models to S3", upload).await?;
    screen.note(&format!("s3://{BUCKET}/{PREFIX}det.onnx and rec.onnx: {}", screen::mib(bytes)));
    let picture =
        screen.step("a picture of a street sign", scenario.draw_sign("sign.png", ENGLISH, CHINESE)).await?;
    let folder = picture.parent().context("the picture has no folder")?.to_owned();
    let pictures = scenario.serve_files(&folder).await?;
    let controller = screen.step("the controller: larder run", scenario.controller("larder", &[])).await?;
    let mut demo = Demo { controller: Some(controller), pictures, scenario };
    // As from a far region, and slow enough to be seen.
    for (file, seconds) in [("det.onnx", 1), ("rec.onnx", 4)] {
        let slow = Fault::Latency(Duration::from_secs(seconds));
        demo.scenario.stack.inject(Rule::new("s3", "GetObject", When::Always, slow).on(file));
    }
    converge(screen, &demo).await?;
    read_sign(screen, &demo, &picture).await?;
    roll_out(screen, &demo, &picture).await?;
    if !screen.keeps {
        delete(screen, &mut demo).await?;
    }
    screen.table();
    Ok(demo)
}

/// `larder plan`, `kubectl apply`, and the live view until Ready.
async fn converge(screen: &mut Screen, demo: &Demo) -> Result<()> {
    let manifest = repository().join("docs/examples/signs.yaml");
    let file = manifest.display().to_string();
    screen.heading("larder plan -f docs/examples/signs.yaml");
    let colour = if screen.is_coloured { "--color=always" } else { "--color=never" };
    let (code, plan) = demo.scenario.plan(&manifest, &[colour]).await?;
    screen.block(&plan);
    ensure!(code == 2, "larder plan ended with {code}, not 2: {plan}");
    screen.heading("kubectl apply -f docs/examples/signs.yaml");
    screen.block(&demo.scenario.kubectl(&["apply", "-f", &file]).await?);
    screen.begin("from apply to Ready");
    watch::until(screen, &demo.scenario.endpoints(), "signs", PATIENCE, |e| is_ready_at(e, "1")).await?;
    screen.end();
    show(screen, demo).await
}

async fn show(screen: &Screen, demo: &Demo) -> Result<()> {
    screen.heading("kubectl get iep -A");
    screen.block(&demo.scenario.kubectl(&["get", "iep", "-A"]).await?);
    Ok(())
}

/// Ready is True, at this generation, with this version serving.
#[must_use]
pub fn is_ready_at(endpoint: &InferenceEndpoint, version: &str) -> bool {
    let Some(status) = &endpoint.status else { return false };
    let is_ready = status.conditions.iter().any(|c| {
        c.type_ == "Ready" && c.status == "True" && c.observed_generation == endpoint.metadata.generation
    });
    is_ready && status.function.as_ref().and_then(|f| f.version.as_deref()) == Some(version)
}

async fn url(demo: &Demo) -> Result<String> {
    let endpoint = demo.scenario.endpoints().get("signs").await?;
    endpoint.status.and_then(|s| s.url).context("the endpoint has no URL")
}

/// The text of an answer must hold both lines of the sign.
fn expect_sign(answer: &crate::scenario::Answer) -> Result<String> {
    let json = answer.json()?;
    ensure!(answer.status.is_success(), "{}: {json}", answer.status);
    let label = json["predicted_label"].as_str().unwrap_or_default();
    if label.contains(ENGLISH) && label.contains(CHINESE) {
        return Ok(label.to_owned());
    }
    bail!("the sign says {ENGLISH:?} and {CHINESE:?}, and the answer is {json}")
}

/// The seed's request with a link, then the picture itself.
async fn read_sign(screen: &mut Screen, demo: &Demo, picture: &Path) -> Result<()> {
    let url = url(demo).await?;
    screen.heading(&format!("POST {url}ocr"));
    let name = picture.file_name().unwrap_or_default().to_string_lossy();
    let request = json!({"language": "en,ch_sim", "link": format!("{}{name}", demo.pictures.url)});
    let asked = demo.scenario.post(&url, "ocr", "application/json", request.to_string().into());
    let answer = screen.step("a sign by link", asked).await?;
    screen.note(&format!("{request}"));
    screen.note(&format!("→ {}", json!({"predicted_label": expect_sign(&answer)?})));
    let bytes = Bytes::from(tokio::fs::read(picture).await?);
    screen.note(&format!("{name}: {} of PNG", screen::mib(bytes.len() as u64)));
    let answer = screen
        .step("a sign by its bytes", demo.scenario.post(&url, "ocr?language=en,ch_sim", "image/png", bytes))
        .await?;
    screen.note(&format!("→ {}", json!({"predicted_label": expect_sign(&answer)?})));
    Ok(())
}

/// New models on S3 become version 2 while requests go on.
async fn roll_out(screen: &mut Screen, demo: &Demo, picture: &Path) -> Result<()> {
    screen.heading("PP-OCRv6 models over the old ones, while requests go on");
    let url = url(demo).await?;
    let bytes = Bytes::from(tokio::fs::read(picture).await?);
    let mut clients = Clients::new(&demo.scenario, &url, bytes);
    let api = demo.scenario.endpoints();
    screen.begin("from upload to the new version");
    demo.scenario.upload(PREFIX, Ocr::V6).await?;
    // Both files are one version: a source is taken once it has settled.
    let rollout = watch::until(screen, &api, "signs", PATIENCE, |e| is_ready_at(e, "2"));
    clients.while_busy(rollout).await??;
    screen.end();
    clients.more(3).await?;
    screen.note(&clients.summary());
    ensure!(clients.failed.is_empty(), "requests failed during the rollout: {:?}", clients.failed);
    ensure!(clients.by_version.len() >= 2, "the new version took no request: {}", clients.summary());
    show(screen, demo).await
}

async fn delete(screen: &mut Screen, demo: &mut Demo) -> Result<()> {
    screen.heading("kubectl delete iep signs");
    let before = demo.scenario.stack.leftovers().await?;
    screen.note(&format!("Larder's in AWS now: {} resources", before.len()));
    ensure!(!before.is_empty(), "there was nothing to delete");
    let deletion = demo.scenario.kubectl(&["-n", NAMESPACE, "delete", "iep", "signs", "--timeout=100s"]);
    let said = screen.step("from delete to gone", deletion).await?;
    screen.block(&said);
    let left = demo.scenario.stack.leftovers().await?;
    for one in &left {
        screen.note(&format!("left: {one}"));
    }
    ensure!(left.is_empty(), "{} resources are left in AWS", left.len());
    screen.note("Larder's in AWS now: nothing (file systems, mount targets, access points, functions,");
    screen.note("versions, aliases, URLs, provisioned concurrency and log groups were listed)");
    if let Some(controller) = demo.controller.take() {
        controller.stop().await;
    }
    Ok(())
}

/// How to use what is left running.
///
/// # Errors
/// When the endpoint cannot be read.
pub async fn how_to_use(screen: &Screen, demo: &Demo) -> Result<()> {
    let stack = &demo.scenario.stack;
    let url = stack.function_url(&url(demo).await?);
    screen.heading("It keeps running; Ctrl-C ends it. In another terminal:");
    screen.note(&format!("export PATH={}:$PATH", stack.tools().assets.display()));
    screen.note(&format!("export KUBECONFIG={}", stack.kubeconfig().display()));
    screen.note("kubectl get iep -A; kubectl -n vision describe iep signs");
    screen.note(&format!(
        "curl --data-binary @{}/sign.png -H 'content-type: image/png' {url}ocr",
        stack.dir().display()
    ));
    screen.note(&format!(
        "AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=eu-west-1 aws --endpoint-url {} lambda list-functions",
        stack.endpoint()
    ));
    screen.note(&format!("logs: {}; images are tagged {TAG}", stack.logs_dir().display()));
    Ok(())
}

impl Demo {
    /// Ends everything in order.
    pub async fn stop(self) {
        if let Some(controller) = self.controller {
            controller.stop().await;
        }
        drop(self.pictures);
        self.scenario.stack.stop().await;
    }
}
