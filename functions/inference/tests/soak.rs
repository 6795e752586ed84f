//! The program under mixed traffic, valid and not, from clients some of which go away: every answer is
//! right, nothing is a failure of ours, and its memory does not grow.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it. `SOAK_SECONDS` says how long (default 10; `make soak` 300),
//! `SEED` plays the same traffic again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::program::{answered, server};
use serde_json::{Value, json};

/// Clients at once.
const CLIENTS: u64 = 3;
/// Memory may grow by this much after the warm-up: allocator's rests, not a leak at this rate of requests.
const MOST_GROWTH: f64 = 1.10;

/// A request, and the status of its answer.
struct Case {
    line: String,
    content_type: &'static str,
    /// Of a body whose tensors are bytes after its JSON: how long that is.
    json_length: Option<usize>,
    body: Vec<u8>,
    status: u16,
}

impl Case {
    /// What it is counted under.
    fn kind(&self) -> &'static str {
        let kinds = [
            ("/infer", "tensors"),
            ("/ocr", "pictures read"),
            ("/models/signs", "pictures read"),
            ("/models/s", "texts"),
            ("/models/emotions", "texts"),
            ("/v1/embeddings", "texts"),
            ("/models/animals", "pictures labelled"),
        ];
        let kind = kinds.iter().find(|(part, _)| self.line.contains(part)).map(|(_, kind)| *kind);
        if self.status == 200 { kind.unwrap_or("metadata") } else { "refused" }
    }
}

fn case(line: &str, content_type: &'static str, body: impl Into<Vec<u8>>, status: u16) -> Case {
    Case { line: line.to_owned(), content_type, json_length: None, body: body.into(), status }
}

/// One tensor of the Open Inference Protocol as bytes, and every output so.
fn binary(model: &str, name: &str, datatype: &str, shape: &[usize], bytes: &[u8]) -> Case {
    let tensor = json!({"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": bytes.len()}});
    let json = json!({"inputs": [tensor], "parameters": {"binary_data_output": true}}).to_string();
    let line = format!("POST /v2/models/{model}/infer");
    let body = [json.as_bytes(), bytes].concat();
    Case { json_length: Some(json.len()), ..case(&line, "application/octet-stream", body, 200) }
}

/// An element of a BYTES tensor: its length, then itself.
fn element(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

/// What clients ask: each task in each protocol, and what is wrong in each way.
fn cases(sign: &[u8], wide: &[u8]) -> Vec<Case> {
    let json = "application/json";
    let post =
        |path: &str, body: Value, status| case(&format!("POST {path}"), json, body.to_string(), status);
    let long = "good ".repeat(3000);
    let row = json!({"name": "x", "shape": [1, 64], "datatype": "FP32", "data": vec![0.5; 64]});
    let text =
        |text: &str| json!({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]});
    let halves = 0.5_f32.to_le_bytes().repeat(64);
    vec![
        case("POST /ocr?model=signs", "image/png", sign, 200),
        case("POST /ocr", "application/octet-stream", wide, 200),
        post("/ocr", json!({"image": BASE64_STANDARD.encode(sign), "language": "en,ch_sim"}), 200),
        post("/models/sentiment-distilbert", json!({"inputs": "I love this harbour!"}), 200),
        post(
            "/models/sentiment-distilbert",
            json!({"inputs": ["", "😀", long], "parameters": {"top_k": 1}}),
            200,
        ),
        post("/models/emotions-roberta", json!({"inputs": ["so", "happy and sad"]}), 200),
        post("/models/sentences-whole", json!({"inputs": ["a harbour", "ein Hafen", "港"]}), 200),
        post("/v1/embeddings", json!({"model": "sentences-whole", "input": ["a", "b"]}), 200),
        case("POST /models/animals-vit", "image/png", sign, 200),
        case("POST /models/animals-resnet", "image/png", wide, 200),
        case("POST /models/signs", "image/png", sign, 200),
        post("/v2/models/layers/infer", json!({"inputs": [row]}), 200),
        post("/models/layers", json!({"inputs": [row]}), 200),
        binary("layers", "x", "FP32", &[1, 64], &halves),
        binary("signs", "image", "BYTES", &[1], &element(sign)),
        binary("animals-vit", "image", "BYTES", &[1], &element(sign)),
        post("/v2/models/sentiment-distilbert/infer", text("I love this harbour!"), 200),
        post("/v2/models/sentences-whole/infer", text("ein Hafen"), 200),
        binary("sentences-whole", "text", "BYTES", &[2], &[element(b"a harbour"), element(b"")].concat()),
        case("GET /models", json, "", 200),
        case("GET /metrics", json, "", 200),
        case("GET /v2/models/layers", json, "", 200),
        case("POST /v2/repository/index", json, "{}", 200),
        case("POST /ocr", "image/png", &sign[..sign.len() / 2], 400),
        case("POST /ocr", "image/png", "GIF89a", 415),
        case("POST /ocr", "text/plain", "hi", 415),
        case("POST /models/sentiment-distilbert", json, "{\"inputs\": ", 400),
        post("/models/sentiment-distilbert", json!({"inputs": 3}), 400),
        post("/models/sentiment-distilbert", json!({"inputs": "a", "parameters": {"top_q": 1}}), 400),
        post("/models/nobody", json!({"inputs": "a"}), 404),
        post("/v1/embeddings", json!({"model": "signs", "input": "a"}), 400),
        post(
            "/v2/models/layers/infer",
            json!({"inputs": [{"name": "x", "shape": [1, 63], "datatype": "FP32", "data": vec![0.5; 63]}]}),
            400,
        ),
        post("/v2/models/layers/infer", json!({"inputs": []}), 400),
        case("GET /nothing", json, "", 404),
        case("DELETE /ocr", json, "", 405),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "amounts of memory, to be shown")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Sends a request and reads the whole answer; a client that leaves sends `part` of it and goes.
fn asked(address: &str, case: &Case, part: Option<usize>) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
    let json_length = case.json_length.map(|length| format!("inference-header-content-length: {length}\r\n"));
    let head = format!(
        "{} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\n{}\r\n",
        case.line,
        case.content_type,
        case.body.len(),
        json_length.unwrap_or_default()
    );
    let request = [head.as_bytes(), &case.body].concat();
    if let Some(part) = part {
        // The server may have refused and closed already.
        let _ = stream.write_all(&request[..part.min(request.len())]);
        return None;
    }
    stream.write_all(&request).unwrap();
    Some(answered(stream))
}

#[test]
fn mixed_traffic_gets_right_answers_and_memory_stays() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(10, |s| s.parse().unwrap());
    let seed: u64 = std::env::var("SEED").map_or(20_261_125, |s| s.parse().unwrap());
    println!("SEED={seed}");
    let models = tempfile::tempdir().unwrap();
    common::folder_of(models.path(), "signs", &common::models("v6"));
    for name in
        ["sentiment-distilbert", "emotions-roberta", "sentences-whole", "animals-vit", "animals-resnet"]
    {
        let files: Vec<_> =
            std::fs::read_dir(common::export(name)).unwrap().map(|e| e.unwrap().path()).collect();
        common::folder_of(models.path(), name, &files);
    }
    std::fs::create_dir(models.path().join("layers")).unwrap();
    let layers = models.path().join("layers/model.onnx");
    let writer = common::model_writer();
    common::run_python(&[
        writer.as_ref(),
        "layers".as_ref(),
        layers.as_ref(),
        "--seed".as_ref(),
        "1".as_ref(),
        "--width".as_ref(),
        "64".as_ref(),
    ]);
    let cases = cases(
        &common::sign("North Gate", "北门"),
        &common::sign("Harbour Road to the Old Town Hall", "海港路"),
    );
    let running = server(models.path(), &[], &[("LARDER_MEMORY_MIB", "3538")]);
    let address = running.address();

    // What each request is answered when nobody else asks, twice: it is the same. What tells the time is not.
    let settled = |case: &Case| !case.line.contains("/metrics");
    let alone: Vec<(u16, Vec<u8>)> = cases.iter().map(|case| asked(&address, case, None).unwrap()).collect();
    for (case, (status, body)) in cases.iter().zip(&alone) {
        assert_eq!(*status, case.status, "{}: {}", case.line, String::from_utf8_lossy(body));
    }

    let begun = Instant::now();
    let length = Duration::from_secs(seconds);
    let memory: Mutex<Vec<(f64, f64)>> = Mutex::default();
    let start = running.status("RssAnon:");
    let kinds: BTreeMap<&str, u64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (cases, alone, address) = (&cases, &alone, &address);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed + client);
                    let mut kinds = BTreeMap::new();
                    while begun.elapsed() < length {
                        let at = random.usize(..cases.len());
                        let case = &cases[at];
                        let leaves = random.u8(..8) == 0;
                        let part = leaves.then(|| random.usize(..case.body.len() + 200));
                        *kinds.entry(if leaves { "left" } else { case.kind() }).or_default() += 1;
                        let Some((status, body)) = asked(address, case, part) else { continue };
                        let expected = &alone[at];
                        let text = String::from_utf8_lossy(&body).into_owned();
                        assert_eq!(status, expected.0, "{}: {text}", case.line);
                        if status == 200 && settled(case) {
                            assert!(body == expected.1, "{}: {text}", case.line);
                        }
                    }
                    kinds
                })
            })
            .collect();
        scope.spawn(|| {
            while begun.elapsed() < length {
                let now =
                    (begun.elapsed().as_secs_f64() / length.as_secs_f64(), mib(running.status("RssAnon:")));
                memory.lock().unwrap().push(now);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let all = clients.into_iter().flat_map(|client| client.join().unwrap());
        all.fold(BTreeMap::new(), |mut sums, (kind, count): (_, u64)| {
            *sums.entry(kind).or_default() += count;
            sums
        })
    });
    let memory = memory.into_inner().unwrap();
    let greatest = |from: f64, to: f64| {
        memory.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, mib)| *mib).fold(0.0, f64::max)
    };
    let (early, late) = (greatest(0.2, 0.6), greatest(0.6, 1.0));
    let at = |part: f64| memory.iter().find(|(at, _)| *at >= part).or(memory.last()).unwrap().1;
    println!("requests in {seconds} s: {kinds:?}");
    println!(
        "anonymous memory: {:.0} MiB at the start, {:.0} in the middle, {:.0} at the end; at most {early:.0}, later {late:.0}",
        mib(start),
        at(0.5),
        at(1.0)
    );
    assert!(kinds.values().sum::<u64>() >= 20, "{kinds:?} are too few to say anything");
    assert!(late <= early * MOST_GROWTH, "memory grew from {early:.0} to {late:.0} MiB");
}
