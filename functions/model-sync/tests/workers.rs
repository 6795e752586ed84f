//! Real processes that share a copy, killed at random instants and started twice, while a server does random wrong
//! things. It must end with the right bytes and one commit, and what a journal has is never fetched again.
//!
//! `LARDER_KILLS` says how many kills (120 when unset), `LARDER_SEED` plays a seed that failed again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use larder_contract::{Digest, Worker, layout};
use larder_model_sync::store;
use support::{Bucket, Chance, copy};

const MIB: usize = 1 << 20;

/// Long files that several workers write to, and small ones between them.
const OBJECTS: &[(&str, usize)] = &[
    ("llm/a/config.json", 700),
    ("llm/a/empty", 0),
    ("llm/b-00001.safetensors", 11 * MIB + 5),
    ("llm/b-00002.safetensors", 3 * MIB),
    ("llm/b-00003.safetensors", MIB / 2),
    ("llm/many/0", 1_000),
    ("llm/many/1", 2_000_000),
    ("llm/many/2", 70_000),
    ("llm/tokenizer.json", 2 * MIB + 1),
    ("llm/z", 0),
];

/// How many runs of this kind go on at once, each with its own server and folder.
const LANES: usize = 2;

/// The model that the bucket holds, and the objects' lengths in the order of its files.
fn model(bucket: &Bucket) -> (Digest, Vec<(String, usize)>) {
    let revision = bucket.revision("llm/");
    let objects = bucket.objects.lock().unwrap();
    (revision, objects.iter().map(|(key, bytes)| (key.clone(), bytes.len())).collect())
}

/// The ranges that are in a journal, as the server sees their requests.
fn noted(dir: &Path, revision: &Digest, files: &[(String, usize)]) -> BTreeSet<(String, usize)> {
    let Some((_, done)) = store::progress(dir, revision) else { return BTreeSet::new() };
    let mut found = BTreeSet::new();
    for (file, (key, length)) in (0..).zip(files) {
        let parts = (0u32..).zip(0..length.div_ceil(MIB).max(1));
        found.extend(parts.filter(|(i, _)| done.has_part(file, *i)).map(|(_, nth)| (key.clone(), nth * MIB)));
    }
    found
}

/// One process; its output, or none when it was killed.
async fn run(
    url: String,
    dir: &Path,
    worker: Option<Worker>,
    killed_after: Option<Duration>,
) -> Option<Output> {
    let mut command = copy(&url, "llm/", dir);
    command.args(["--stall-seconds", "1"]);
    if let Some(worker) = worker {
        command.args(["--worker", &worker.to_string()]);
    }
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let limit = killed_after.unwrap_or(Duration::from_mins(4));
    let output = tokio::time::timeout(limit, child.wait_with_output()).await.ok();
    assert!(output.is_some() || killed_after.is_some(), "it hangs");
    output.map(Result::unwrap)
}

/// Whether this process made the revision appear. How else it ended must be one of the ways that are no fault.
fn is_commit(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            summary["isComplete"] == true && summary["alreadyPresent"] == false
        }
        // Another one has this share, or the lock.
        Some(5) => false,
        code => {
            let ends = ["no good answer", "fewer requests", "no answer for", "no byte for", "wanted "];
            assert!(code == Some(1) && ends.iter().any(|words| said.contains(words)), "{code:?}: {said}");
            false
        }
    }
}

/// Runs all `workers` and waits for them; answers how many were killed and how many committed.
async fn round(
    bucket: &Bucket,
    url: &str,
    dir: &Path,
    workers: Vec<(Option<Worker>, Option<Duration>)>,
) -> (usize, usize) {
    let (revision, files) = model(bucket);
    let running = workers.into_iter().map(|(worker, kill)| run(url.to_owned(), dir, worker, kill));
    let all = futures::future::join_all(running);
    tokio::pin!(all);
    // Looked at while they run: what was noted by then is not asked for from then on.
    let mut looks = Vec::new();
    let outputs = loop {
        let kept = noted(dir, &revision, &files);
        looks.push((bucket.asked.lock().unwrap().len(), kept));
        tokio::select! {
            outputs = &mut all => break outputs,
            () = tokio::time::sleep(Duration::from_millis(40)) => {}
        }
    };
    let asked = bucket.asked.lock().unwrap();
    for (from, kept) in looks {
        let again: Vec<_> = asked[from..].iter().filter(|part| kept.contains(part)).collect();
        assert!(again.is_empty(), "fetched again: {again:?}");
    }
    let killed = outputs.iter().filter(|output| output.is_none()).count();
    (killed, outputs.iter().flatten().filter(|output| is_commit(output)).count())
}

async fn lane(seed: u64, kills: usize) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut left = kills;
    while left > 0 {
        let bucket = Bucket::new(OBJECTS);
        *bucket.chance.lock().unwrap() = Some(Chance::without_swaps(chance.u64(..)));
        let bucket = Arc::new(bucket);
        let (url, (revision, _)) = (bucket.serve().await, model(&bucket));
        let dir = tempfile::tempdir().unwrap();
        let (mut commits, mut last_killed, mut rounds) = (0, 0, 0);
        while !store::is_present(dir.path(), &revision) {
            rounds += 1;
            assert!(rounds < 60, "seed {seed}: no end");
            // Mostly eight; another number now and then, or one by itself.
            let of = [8, 8, 8, 8, 5, 3, 0][chance.usize(..7)];
            let mut workers: Vec<Option<Worker>> =
                if of == 0 { vec![None] } else { Worker::all(of).map(Some).collect() };
            // Delivered twice.
            workers.extend_from_within(..(workers.len() / 3).max(1));
            chance.shuffle(&mut workers);
            let is_killing = left > 0 && rounds < 30;
            let mut kill =
                || (is_killing && chance.bool()).then(|| Duration::from_micros(chance.u64(..900_000)));
            let workers = workers.into_iter().map(|worker| (worker, kill())).collect();
            let (killed, committed) = round(&bucket, &url, dir.path(), workers).await;
            left = left.saturating_sub(killed);
            commits += committed;
            last_killed = killed;
        }
        // Whoever made it appear may have been killed before it could say so.
        assert!(commits == 1 || (commits == 0 && last_killed > 0), "seed {seed}: {commits} commits");
        let folder = layout::revision_dir(dir.path(), &revision);
        for (key, bytes) in &*bucket.objects.lock().unwrap() {
            let path = folder.join(key.strip_prefix("llm/").unwrap());
            assert!(std::fs::read(path).unwrap() == *bytes, "seed {seed}: {key} differs");
        }
        let verified = support::binary().arg("verify").arg(dir.path()).output().unwrap();
        assert!(verified.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&verified.stderr));
        let late = run(url, dir.path(), Some(Worker::new(7, 8).unwrap()), None).await.unwrap();
        assert!(late.status.success() && !is_commit(&late), "seed {seed}: a late delivery finds it done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_at_any_instant_end_with_one_right_revision() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = usize::try_from(number("LARDER_KILLS").unwrap_or(120)).unwrap();
    let seed = number("LARDER_SEED");
    let seeds = seed.map_or_else(|| (0..LANES).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    eprintln!("seeds: {seeds:?}");
    let lanes = seeds.len();
    let running: Vec<_> =
        seeds.into_iter().map(|seed| tokio::spawn(lane(seed, kills.div_ceil(lanes)))).collect();
    for lane in running {
        lane.await.unwrap();
    }
}

/// Killed while it folded the workers' journals into one: some are gone, and the division stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_division_without_its_journals_is_made_anew() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let (url, (revision, _)) = (bucket.serve().await, model(&bucket));
    let dir = tempfile::tempdir().unwrap();
    let worker = |index| (Some(Worker::new(index, 8).unwrap()), None);
    assert_eq!(round(&bucket, &url, dir.path(), vec![worker(0)]).await, (0, 0));
    let staging = layout::staging_dir(dir.path(), &revision);
    for index in 1..8 {
        std::fs::remove_file(staging.join(format!("journal.{index}"))).unwrap();
    }
    assert_eq!(round(&bucket, &url, dir.path(), (1..8).map(worker).collect()).await, (0, 1));
    assert!(store::is_present(dir.path(), &revision));
}

/// Without kills and faults: each byte is fetched once, by eight together, and one of them makes it complete.
#[tokio::test(flavor = "multi_thread")]
async fn eight_workers_fetch_every_part_once() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let (url, (revision, files)) = (bucket.serve().await, model(&bucket));
    let dir = tempfile::tempdir().unwrap();
    let workers = Worker::all(8).map(|worker| (Some(worker), None)).collect();
    assert_eq!(round(&bucket, &url, dir.path(), workers).await, (0, 1));
    assert!(store::is_present(dir.path(), &revision));
    let asked = bucket.asked.lock().unwrap();
    let once: BTreeSet<_> = asked.iter().cloned().collect();
    // Empty files are made, not fetched.
    let parts: usize = files.iter().map(|(_, length)| length.div_ceil(MIB)).sum();
    assert_eq!((asked.len(), once.len()), (parts, parts));
}
