//! The program as a Lambda runtime: events of every shape (`events/`), handed out by a Runtime API.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path as Root, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::lambda::{self, Invoked, Played, http};
use common::program::says_opened;
use larder_contract::{Digest, Manifest};
use serde_json::{Value, json};

/// Lambda's id of every invocation.
const ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// Plays events, each with its time, to a function that serves the ocr model `signs`.
async fn play(events: Vec<(Value, Duration)>, variables: &[(&str, &str)]) -> Played {
    let root = tempfile::tempdir().unwrap();
    play_at(root.path(), events, variables).await
}

/// As `play`, with this folder as the file system.
async fn play_at(root: &Root, events: Vec<(Value, Duration)>, variables: &[(&str, &str)]) -> Played {
    common::folder_of(&root.join("revisions"), &Digest::of(b"signs").hex(), &common::models("v6"));
    let manifest = Manifest::new(vec![lambda::model("signs", true)]);
    let invoked = |(event, time)| Invoked { id: ID.to_owned(), event, time };
    lambda::play(root, &manifest, events.into_iter().map(invoked).collect(), variables).await
}

/// An event of `events/`, with a picture in it.
fn event(name: &str, picture: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text.replace("<picture>", picture)).unwrap()
}

const LABEL: &str = "海港路 Harbour Road";

#[tokio::test]
async fn every_shape_of_event_is_answered_in_its_own() {
    let picture = BASE64_STANDARD.encode(common::sign("Harbour Road", "海港路"));
    let names = [
        "function-url.json",
        "http-api-stage.json",
        "rest-api.json",
        "rest-api-custom-domain.json",
        "alb.json",
        "alb-multi-value.json",
        "alb-health-check.json",
        "invoke.json",
        "invoke-seed.json",
        "invoke-unknown-model.json",
        "invoke-bad-parameters.json",
        "nothing-known.json",
        "sqs.json",
        "sqs-fifo.json",
        "s3.json",
    ];
    let events = names.iter().map(|name| (event(name, &picture), Duration::from_mins(1))).collect();
    let played = play(events, &[]).await;
    let of = |name: &str| &played.outcomes[names.iter().position(|n| *n == name).unwrap()];

    for name in ["function-url.json", "http-api-stage.json", "alb.json"] {
        let (status, headers, body) = http(of(name));
        assert_eq!((status, &body["predicted_label"]), (200, &json!(LABEL)), "{name}: {body}");
        assert_eq!(headers["x-larder-version"], "7", "{name}");
        // Lambda's own id and trace.
        assert_eq!(headers["x-request-id"], ID, "{name}");
        let parent = headers["traceparent"].as_str().unwrap();
        assert!(
            parent.starts_with("00-67891234123456789012345678901234-") && parent.ends_with("-01"),
            "{parent}"
        );
    }
    for name in ["rest-api.json", "rest-api-custom-domain.json", "alb-multi-value.json"] {
        let (status, headers, body) = http(of(name));
        assert_eq!((status, &body["predicted_label"]), (200, &json!(LABEL)), "{name}: {body}");
        assert_eq!(headers["x-larder-version"], json!(["7"]), "{name}");
    }
    let check = of("alb-health-check.json").as_ref().unwrap();
    assert_eq!((&check["statusDescription"], &check["body"]), (&json!("200 OK"), &json!("ok\n")));
    assert_eq!(check["isBase64Encoded"], false);

    for name in ["invoke.json", "invoke-seed.json"] {
        let answer = of(name).as_ref().unwrap();
        assert_eq!(
            (&answer["predicted_label"], &answer["model"]),
            (&json!(LABEL), &json!("signs")),
            "{name}"
        );
    }
    let refused = |name: &str, status: u64, parts: &[&str]| {
        let answer = of(name).as_ref().unwrap();
        assert_eq!((&answer["status"], answer.as_object().unwrap().len()), (&json!(status), 3), "{answer}");
        assert_eq!(answer["requestId"], ID);
        for part in parts {
            assert!(answer["error"].as_str().unwrap().contains(part), "{name}: no {part:?} in {answer}");
        }
    };
    refused("invoke-unknown-model.json", 404, &["\"none\"", "signs"]);
    refused("invoke-bad-parameters.json", 400, &["parameters", "langages"]);
    refused("nothing-known.json", 400, &["function URLs", "\"inputs\""]);

    let failed = |name: &str| of(name).as_ref().unwrap()["batchItemFailures"].clone();
    assert_eq!(
        failed("sqs.json"),
        json!([
            {"itemIdentifier": "2e1424d4-f796-459a-8184-9c92662be6da"},
            {"itemIdentifier": "3f1424d4-f796-459a-8184-9c92662be6da"}
        ])
    );
    assert_eq!(failed("sqs-fifo.json").as_array().unwrap().len(), 2, "nothing overtakes what failed");
    let other = of("s3.json").as_ref().unwrap_err();
    assert!(other["errorMessage"].as_str().unwrap().contains("aws:s3"), "{other}");

    // The answers to messages are in the log.
    let lines: Vec<Value> = played.stderr.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let answers: Vec<&Value> = lines.iter().filter(|l| l["target"] == "larder::answer").collect();
    assert_eq!(answers.len(), 2, "{}", played.stderr);
    assert!(answers[0]["fields"]["answer"].as_str().unwrap().contains(LABEL));
    assert_eq!(answers[0]["fields"]["message_id"], "059f36b4-87a3-44ab-83d2-661975830a7d");

    // One line of metrics for each request, and for what never came to be one.
    let metrics: Vec<Value> = played.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let (metrics, models): (Vec<_>, Vec<_>) = metrics.into_iter().partition(|line| line["Route"].is_string());
    assert_eq!(metrics.len(), 18, "{}", played.stdout);
    // And one for the load of its only model, which came before the first request.
    assert_eq!(models.len(), 1, "{}", played.stdout);
    assert_eq!((&models[0]["Model"], &models[0]["Loads"]), (&json!("signs"), &json!(1)));
    assert!(models[0]["LoadTime"].as_f64().unwrap() > 0.0, "{}", models[0]);
    for line in metrics.iter().chain(&models) {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        for dimension in directive["Dimensions"][0].as_array().unwrap() {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{line}");
        }
    }
    assert_eq!((&metrics[0]["Route"], &metrics[0]["Model"]), (&json!("/models/{model}"), &json!("signs")));
    assert_eq!(metrics[0]["TraceId"], "67891234123456789012345678901234");
}

#[tokio::test]
async fn an_answer_comes_before_the_functions_time_is_over() {
    // Many pictures in less time than one takes.
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(800, 600, image::Rgb([255; 3]))
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let picture = BASE64_STANDARD.encode(png.into_inner());
    let body = json!({"model": "signs", "inputs": vec![picture.as_str(); 100]});
    let events = vec![
        (body, Duration::from_millis(400)),
        (event("alb-health-check.json", ""), Duration::from_mins(1)),
    ];
    let played = play(events, &[("LARDER_EMF", "off")]).await;
    let late = played.outcomes[0].as_ref().unwrap();
    assert_eq!(late["status"], 504, "{late}");
    for part in ["\"signs\"", "within ", "it was still ", "decoding "] {
        assert!(late["error"].as_str().unwrap().contains(part), "no {part:?} in {late}");
    }
    assert_eq!(http(&played.outcomes[1]).0, 200, "it goes on");
    assert_eq!(played.stdout, "", "no lines for CloudWatch when they are off");
}

/// The prepared files under a root.
fn artefacts(root: &Root) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(root.join("prepared")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).filter(|path| path.extension().unwrap() == "ort").collect()
}

fn ask() -> (Value, Duration) {
    let picture = BASE64_STANDARD.encode(common::sign("Harbour Road", "海港路"));
    (event("invoke.json", &picture), Duration::from_mins(1))
}

fn operation(op: &str) -> (Value, Duration) {
    (json!({"op": op}), Duration::from_mins(1))
}

#[tokio::test]
async fn a_model_is_prepared_by_the_first_warm_up_and_used_by_every_start() {
    let root = tempfile::tempdir().unwrap();
    let start = async |initialization: &str, memory: &str| {
        let variables =
            [("AWS_LAMBDA_INITIALIZATION_TYPE", initialization), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory)];
        let played = play_at(root.path(), vec![ask(), operation("prepare")], &variables).await;
        assert_eq!(played.outcomes[0].as_ref().unwrap()["predicted_label"], LABEL);
        played
    };
    let outcome = |played: &Played| played.outcomes[1].as_ref().unwrap()["models"][0].clone();
    let lines = |played: &Played, said: &str| played.stderr.matches(said).count();

    // Somebody else's files, or a mount that cannot be written.
    std::fs::write(root.path().join("prepared"), "no folder").unwrap();
    let unwritable = start("provisioned-concurrency", "3600").await;
    assert_eq!(lines(&unwritable, "models are not prepared"), 2, "{}", unwritable.stderr);
    assert_eq!(outcome(&unwritable)["outcome"], "skipped");
    std::fs::remove_file(root.path().join("prepared")).unwrap();

    let small = start("provisioned-concurrency", "160").await;
    assert_eq!(outcome(&small)["outcome"], "skipped");
    assert!(outcome(&small)["reason"].as_str().unwrap().contains("MiB are free"), "{}", small.stderr);

    let first = start("provisioned-concurrency", "3600").await;
    let made = artefacts(root.path());
    assert!(!made.is_empty() && lines(&first, "model prepared") == 1, "{}", first.stderr);
    let second = start("on-demand", "3600").await;
    assert_eq!((artefacts(root.path()), lines(&second, "model prepared")), (made.clone(), 0));
    for (played, name) in [(first, "first"), (second, "second")] {
        for artefact in &made {
            assert!(says_opened(&played.stderr, artefact), "{name}: {}", artefact.display());
        }
        assert_eq!(outcome(&played)["outcome"], "found", "{name}");
        let used: Vec<&str> = played.outcomes[1].as_ref().unwrap()["models"][0]["files"]
            .as_object()
            .unwrap()
            .values()
            .map(|v| v.as_str().unwrap())
            .collect();
        assert_eq!(used.iter().filter(|choice| **choice != "original").count(), made.len(), "{used:?}");
    }
    let whole = std::fs::read_dir(root.path().join("prepared")).unwrap().count();
    assert_eq!(whole, 1, "nothing is left over");
}

#[tokio::test]
async fn models_are_prepared_when_the_function_is_asked_to() {
    let root = tempfile::tempdir().unwrap();
    let short = (json!({"op": "prepare"}), Duration::from_millis(400));
    let events = vec![operation("repair"), short, operation("prepare"), operation("prepare"), ask()];
    let played = play_at(root.path(), events, &[]).await;
    let answers: Vec<&Value> = played.outcomes.iter().map(|outcome| outcome.as_ref().unwrap()).collect();
    assert_eq!(answers[0]["status"], 400);
    assert!(answers[0]["error"].as_str().unwrap().contains("\"op\""), "{}", answers[0]);
    assert_eq!(answers[1]["models"][0]["outcome"], "failed", "{}", answers[1]);
    assert!(
        answers[1]["models"][0]["reason"].as_str().unwrap().contains("not done within"),
        "{}",
        answers[1]
    );
    let made = &answers[2]["models"][0];
    assert_eq!((&made["model"], &made["outcome"]), (&json!("signs"), &json!("prepared")), "{made}");
    assert_eq!(answers[3]["models"][0]["outcome"], "found");
    assert_eq!(answers[3]["models"][0]["files"], made["files"]);
    assert_eq!(answers[4]["predicted_label"], LABEL);

    let off = play_at(root.path(), vec![operation("prepare")], &[("PREPARE_MODELS", "off")]).await;
    assert_eq!(off.outcomes[0].as_ref().unwrap()["status"], 409);
}

#[tokio::test]
async fn the_page_is_there_through_a_function_url_unless_it_is_off() {
    let root = tempfile::tempdir().unwrap();
    let manifest = Manifest::new(vec![lambda::model("signs", false)]);
    common::folder_of(&root.path().join("revisions"), &Digest::of(b"signs").hex(), &common::models("v6"));
    let get = async |variables: &[(&str, &str)]| {
        let mut event = event("function-url.json", "");
        event["rawPath"] = json!("/");
        event["requestContext"]["http"] = json!({"method": "GET", "path": "/"});
        event["body"] = Value::Null;
        let invoked = Invoked { id: ID.to_owned(), event, time: Duration::from_mins(1) };
        let played = lambda::play(root.path(), &manifest, vec![invoked], variables).await;
        let reply = played.outcomes[0].clone().unwrap();
        assert_eq!(reply["isBase64Encoded"], false, "{reply}");
        (
            reply["statusCode"].as_u64().unwrap(),
            reply["headers"].clone(),
            reply["body"].as_str().unwrap().to_owned(),
        )
    };
    let (status, headers, page) = get(&[]).await;
    assert_eq!(status, 200, "{page}");
    assert!(headers["content-type"].as_str().unwrap().starts_with("text/html"), "{headers}");
    // The policy is for the very script and style that are in the page.
    let policy = headers["content-security-policy"].as_str().unwrap();
    for element in ["script", "style"] {
        let inside = page.split_once(&format!("<{element}>")).unwrap().1;
        let inside = inside.split_once(&format!("</{element}>")).unwrap().0;
        let hash = BASE64_STANDARD.encode(Digest::of(inside.as_bytes()).as_bytes());
        assert!(policy.contains(&format!("{element}-src 'sha256-{hash}'")), "{policy}");
    }
    let (status, headers, body) = get(&[("TRY_IT_PAGE", "off")]).await;
    assert_eq!((status, headers["content-security-policy"].is_null()), (404, true), "{body}");
    assert!(body.contains("\"error\"") && !body.contains("<script"), "{body}");
}

#[tokio::test]
async fn a_model_that_is_still_being_loaded_when_the_time_is_over_is_tried_again_later() {
    let root = tempfile::tempdir().unwrap();
    let manifest = Manifest::new(vec![lambda::model("slow", false)]);
    let folder = root.path().join("revisions").join(Digest::of(b"slow").hex());
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::rename(common::copy_of(&common::export("sentiment-distilbert"), root.path()), &folder).unwrap();
    let pipe = folder.join("tokenizer.json");
    std::fs::remove_file(&pipe).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let event = json!({"model": "slow", "inputs": "a"});
    let invoked = Invoked { id: ID.to_owned(), event, time: Duration::from_secs(1) };
    let played = lambda::play(root.path(), &manifest, vec![invoked], &[]).await;
    let answer = played.outcomes[0].as_ref().unwrap();
    assert_eq!((&answer["status"], &answer["retryAfterSeconds"]), (&json!(503), &json!(2)), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("\"slow\""), "{answer}");
}
