//! SIGKILL at random instants, while a server does random wrong things. Every run must end with the right bytes,
//! and what the journal has is never fetched again.
//!
//! `LARDER_KILLS` says how many kills (200 when unset), `LARDER_SEED` plays a seed that failed again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails there and then")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_contract::{Digest, layout};
use larder_model_sync::store;
use support::{Bucket, Chance, copy};

const MIB: usize = 1 << 20;
const OBJECTS: &[(&str, usize)] = &[
    ("ocr/det/model.onnx", 5 * MIB + 5),
    ("ocr/empty", 0),
    ("ocr/keys.txt", 300),
    ("ocr/many/0", 1_000),
    ("ocr/many/1", 2_000),
    ("ocr/many/2", 70_000),
    ("ocr/rec.onnx", 3 * MIB),
    // Equal to another.
    ("ocr/z/keys.txt", 300),
    ("ocr/z/rec.onnx", 3 * MIB),
];

/// How many runs of this kind go on at once, each with its own server and folder.
const LANES: u64 = 4;

/// The ranges that the journal has of what is in the bucket now, as the server sees their requests.
fn noted(dir: &Path, bucket: &Bucket) -> BTreeSet<(String, usize)> {
    let Some((_, done)) = store::progress(dir, &bucket.revision("ocr/")) else { return BTreeSet::new() };
    let objects = bucket.objects.lock().unwrap();
    let mut found = BTreeSet::new();
    for (file, (key, bytes)) in (0..).zip(&*objects) {
        let parts = bytes.len().div_ceil(MIB).max(1);
        let of_file = (0u32..).zip(0..parts).filter(|(index, _)| done.has_part(file, *index));
        found.extend(of_file.map(|(_, nth)| (key.clone(), nth * MIB)));
    }
    found
}

/// Each file is wholly of one content that its object has had, and the record says of which.
fn assert_right(dir: &Path, revision: &Digest, bucket: &Bucket, seed: u64) {
    let mut files = BTreeSet::new();
    store::each_record(dir, |folder, file| {
        if folder == layout::revision_dir(dir, revision) {
            let path = file.object.path.as_str();
            let content = bucket.content(&file.object.etag);
            let content = content.unwrap_or_else(|| panic!("seed {seed}: {path} is of no content there was"));
            assert!(std::fs::read(folder.join(path)).unwrap() == content, "seed {seed}: {path} differs");
            files.insert(format!("ocr/{path}"));
        }
    });
    let keys: BTreeSet<String> = bucket.objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(files, keys, "seed {seed}");
}

async fn lane(seed: u64, kills: usize) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut left = kills;
    while left > 0 {
        let bucket = Bucket::new(OBJECTS);
        *bucket.chance.lock().unwrap() = Some(Chance::new(chance.u64(..)));
        let bucket = Arc::new(bucket);
        let url = bucket.serve().await;
        let dir = tempfile::tempdir().unwrap();
        let mut round = 0;
        loop {
            round += 1;
            let swaps = bucket.swaps.load(Ordering::SeqCst);
            let kept = noted(dir.path(), &bucket);
            bucket.asked.lock().unwrap().clear();
            let mut command = copy(&url, "ocr/", dir.path());
            command.args(["--stall-seconds", "1"]);
            let mut command = tokio::process::Command::from(command);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            let mut child = command.kill_on_drop(true).spawn().unwrap();
            let instant = Duration::from_micros(chance.u64(..400_000));
            // Kills go on until they are used up; then it may finish, and must.
            let limit = if left > 0 && round < 40 { instant } else { Duration::from_mins(2) };
            let is_over = tokio::time::timeout(limit, child.wait()).await.is_ok();
            if !is_over {
                // Dead when this returns, and its lock free: one that waits for a busy disk dies later.
                child.kill().await.unwrap();
            }
            // An object that was replaced gives another revision, and its files from the start.
            if bucket.swaps.load(Ordering::SeqCst) == swaps {
                let again: Vec<_> =
                    bucket.asked.lock().unwrap().iter().filter(|part| kept.contains(part)).cloned().collect();
                assert!(again.is_empty(), "seed {seed}: fetched again: {again:?}");
            }
            if !is_over {
                assert!(limit < Duration::from_mins(1), "seed {seed}: it hangs");
                left = left.saturating_sub(1);
                continue;
            }
            let output = child.wait_with_output().await.unwrap();
            if output.status.success() {
                let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                let revision: Digest = summary["revision"].as_str().unwrap().parse().unwrap();
                assert_right(dir.path(), &revision, &bucket, seed);
                if bucket.swaps.load(Ordering::SeqCst) == swaps {
                    assert_eq!(revision, bucket.revision("ocr/"), "seed {seed}: it is what there is");
                }
                break;
            }
            // A swap, or more faults than it has retries: said so, and the next run goes on.
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_named = [
                "was replaced or removed",
                "no good answer",
                "fewer requests",
                "no answer for",
                "no byte for",
                "wanted ",
            ]
            .iter()
            .any(|words| said.contains(words));
            assert!(is_named && output.status.code() == Some(1), "seed {seed}: {said}");
            assert!(round <= 200, "seed {seed}: no end after {round} runs: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_it_ends_with_the_right_bytes() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = usize::try_from(number("LARDER_KILLS").unwrap_or(200)).unwrap();
    let seed = number("LARDER_SEED");
    let seeds = seed.map_or_else(|| (0..LANES).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    let lanes = seeds.len();
    eprintln!("seeds: {seeds:?}");
    let running: Vec<_> =
        seeds.into_iter().map(|seed| tokio::spawn(lane(seed, kills.div_ceil(lanes)))).collect();
    for lane in running {
        lane.await.unwrap();
    }
}
