//! The command line: its exit codes, its bar, and what it refuses.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails there and then")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Bucket, binary, copy, output};
use tokio::sync::Semaphore;

const MIB: usize = 1 << 20;
const OBJECTS: &[(&str, usize)] =
    &[("ocr/det/model.onnx", 9 * MIB + 5), ("ocr/keys.txt", 300), ("ocr/rec.onnx", 2 * MIB)];
const PARTS: u64 = 10 + 1 + 2;

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// A bucket that lets this many reads through, and its URL.
async fn open_for(reads: usize) -> (Arc<Bucket>, String) {
    let mut bucket = Bucket::new(OBJECTS);
    bucket.open = Semaphore::new(reads);
    let bucket = Arc::new(bucket);
    let url = bucket.serve().await;
    (bucket, url)
}

/// What `status` says of the only revision, if there is one.
async fn status(dir: &Path) -> Option<Value> {
    let mut command = binary();
    command.arg("status").arg(dir);
    let shown: Vec<Value> = serde_json::from_slice(&output(command).await.stdout).ok()?;
    shown.into_iter().next()
}

/// Waits until `status` shows what is asked for.
async fn until(dir: &Path, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = None;
    for _ in 0..600 {
        last = status(dir).await;
        if let Some(shown) = last.as_ref().filter(|shown| is_so(shown)) {
            return shown.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}: {last:?}");
}

fn start(command: Command) -> tokio::process::Child {
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_with_4_and_the_same_command_goes_on() {
    for signal in [Signal::TERM, Signal::INT] {
        let (bucket, url) = open_for(4).await;
        let dir = tempfile::tempdir().unwrap();
        let child = start(copy(&url, "ocr/", dir.path()));
        until(dir.path(), "something is there", |shown| shown["bytesDone"] != 0).await;
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let stopped = child.wait_with_output().await.unwrap();
        assert_eq!(stopped.status.code(), Some(4), "{signal:?}: {}", said(&stopped));
        assert_eq!(said(&stopped), "larder-model-sync: stopped; run the same command again to go on");
        assert_eq!(status(dir.path()).await.unwrap()["running"], false);

        bucket.open.add_permits(1_000);
        let on = output(copy(&url, "ocr/", dir.path())).await;
        assert_eq!(on.status.code(), Some(0), "{}", said(&on));
        let summary: Value = serde_json::from_slice(&on.stdout).unwrap();
        let kept = summary["partsAlreadyPresent"].as_u64().unwrap();
        assert!(kept > 0 && kept + summary["partsFetched"].as_u64().unwrap() == PARTS, "{summary}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_ends_with_5_and_leaves_the_first_alone() {
    let (bucket, url) = open_for(4).await;
    let dir = tempfile::tempdir().unwrap();
    let first = start(copy(&url, "ocr/", dir.path()));
    until(dir.path(), "it is running", |shown| shown["running"] == true).await;
    let second = output(copy(&url, "ocr/", dir.path())).await;
    assert_eq!(second.status.code(), Some(5), "{}", said(&second));
    let words = format!("another process is copying this revision to {}", dir.path().display());
    assert!(said(&second).contains(&words), "{}", said(&second));
    bucket.open.add_permits(1_000);
    let first = first.wait_with_output().await.unwrap();
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_revision_that_was_named_is_copied() {
    let (bucket, url) = open_for(1_000).await;
    let dir = tempfile::tempdir().unwrap();
    let (is, other) = (bucket.revision("ocr/").to_string(), format!("sha256:{}", "0".repeat(64)));
    let run = async |digest: &str| {
        let mut command = copy(&url, "ocr/", dir.path());
        command.args(["--digest", digest]);
        output(command).await
    };
    let refused = run(&other).await;
    assert_eq!(refused.status.code(), Some(1));
    let words =
        format!("larder-model-sync: s3://models/ocr/ is now revision {is}, not {other}; nothing was copied");
    assert_eq!(said(&refused), words);
    assert!(!dir.path().join("staging").exists() && !dir.path().join("revisions").exists());
    assert_eq!(run("sha256:x").await.status.code(), Some(2));
    assert_eq!(run(&is).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_may_take_too_much_memory_are_refused() {
    let (_bucket, url) = open_for(1_000).await;
    let dir = tempfile::tempdir().unwrap();
    let run = async |settings: &[&str]| {
        let mut command = binary();
        command
            .args(["copy", "s3://models/ocr/"])
            .arg(dir.path())
            .args(["--endpoint-url", &url])
            .args(settings);
        output(command).await
    };
    for (settings, words) in [
        (&["--parts", "33"][..], "--parts 33 may take 262 MiB, more than --memory-mib 256"),
        (&["--memory-mib", "100"], "--parts 16 may take 160 MiB, more than --memory-mib 100"),
    ] {
        let refused = run(settings).await;
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(words), "{}", said(&refused));
    }
    let copied = run(&["--parts", "33", "--memory-mib", "262"]).await;
    assert_eq!(copied.status.code(), Some(0), "{}", said(&copied));
}

/// On a terminal: bytes, files, speed and what is left of the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_shows_how_far_it_is() {
    // All but two: then at least one file is whole.
    let (bucket, url) = open_for(11).await;
    let dir = tempfile::tempdir().unwrap();
    let line = copy(&url, "ocr/", dir.path());
    let words = |command: &Command| {
        let args =
            command.get_args().filter(|arg| *arg != "--json").map(|arg| arg.to_str().unwrap().to_owned());
        [command.get_program().to_str().unwrap().to_owned()]
            .into_iter()
            .chain(args)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut script = Command::new("script");
    // A terminal of its own, as wide as this.
    script.args(["-qefc", &format!("stty cols 120; {}", words(&line)), "/dev/null"]).env_clear();
    script.envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("PATH", "/usr/bin:/bin").env("TERM", "xterm").stdin(Stdio::null());
    let shown = start(script);
    until(dir.path(), "a file is there", |shown| shown["filesDone"] != 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    bucket.open.add_permits(1_000);
    let shown = shown.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{text}");
    let bars: Vec<&str> = text.split(['\r', '\n']).filter(|line| line.contains(" left")).collect();
    let is_middle = |bar: &str| {
        let parts = [" MiB/11.00 MiB, ", "/3 files, ", "B/s, ", " left"];
        parts.iter().all(|part| bar.contains(part)) && (bar.contains(" 1/3 ") || bar.contains(" 2/3 "))
    };
    assert!(bars.iter().any(|bar| is_middle(bar)), "{bars:?}");
}

/// Whoever looks on is told how fast it goes and when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn status_tells_speed_and_remaining_time() {
    let (bucket, url) = open_for(4).await;
    let dir = tempfile::tempdir().unwrap();
    let child = start(copy(&url, "ocr/", dir.path()));
    until(dir.path(), "something is there", |shown| shown["bytesDone"] != 0).await;
    let shown = until(dir.path(), "a speed", |shown| shown["bytesPerSecond"].is_u64()).await;
    let number = |name: &str| shown[name].as_u64().unwrap();
    let (speed, left) = (number("bytesPerSecond"), number("bytesTotal") - number("bytesDone"));
    assert!(speed > 0, "{shown}");
    assert_eq!(number("remainingSeconds"), left.div_ceil(speed), "{shown}");
    bucket.open.add_permits(1_000);
    assert!(child.wait_with_output().await.unwrap().status.success());
    let shown = status(dir.path()).await.unwrap();
    assert!(shown["state"] == "Ready" && shown["bytesPerSecond"].is_null(), "{shown}");
}
