//! How a change at a source becomes a rollout: only once the upload is whole, and soon enough.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeSet;
use std::time::Duration;

use larder_contract::source::S3Prefix;
use larder_contract::{Digest, ModelSource};
use larder_crds::InferenceEndpoint;
use larder_tests::world::World;
use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::run::Run;

const SECOND: Duration = Duration::from_secs(1);

fn run(world: World, object: InferenceEndpoint) -> Run {
    Run::new(world, object, defaults()).unwrap()
}

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

/// An endpoint that serves what its source has held for long.
fn ready(object: InferenceEndpoint) -> Run {
    let mut run = run(world(), object);
    settle(&mut run);
    run.world.advance(Duration::from_hours(1));
    settle(&mut run);
    run
}

fn with_marker(marker: &str) -> InferenceEndpoint {
    let mut object = object();
    object.spec.models[0].source.s3.as_mut().unwrap().marker = Some(marker.to_owned());
    object
}

/// Every content that was ever copied.
fn copied(world: &World) -> BTreeSet<Digest> {
    world.look(|account| {
        account.folders.values().flat_map(|folder| folder.revisions.keys().copied()).collect()
    })
}

fn at_source(world: &World) -> Digest {
    let place = S3Prefix { bucket: BUCKET.to_owned(), prefix: "ocr/".to_owned() };
    world.look(|account| account.revision_at(&ModelSource::S3(place)).unwrap().0)
}

fn synced(run: &Run) -> (String, String) {
    let (_, reason, message) = run.condition("ModelsSynced").unwrap();
    (reason.to_owned(), message.to_owned())
}

type Upload = fn(&World);
type Change = (u64, Upload);

/// What an uploader does: after so many seconds, this.
fn uploads() -> Vec<(&'static str, Vec<Change>)> {
    vec![
        (
            "files are replaced one by one",
            vec![
                (0, |w| w.put_object(BUCKET, "ocr/det.onnx", 30 << 20, "det-2")),
                (20, |w| w.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2")),
                (25, |w| w.put_object(BUCKET, "ocr/words.txt", 1000, "words-2")),
            ],
        ),
        (
            "files are deleted first, which S3's times do not show",
            vec![
                (0, |w| w.delete_object(BUCKET, "ocr/det.onnx")),
                (15, |w| w.delete_object(BUCKET, "ocr/rec.onnx")),
                (15, |w| w.put_object(BUCKET, "ocr/model.onnx", 30 << 20, "model-2")),
            ],
        ),
        (
            "an object in parts has the time at which its upload began",
            vec![
                (0, |w| {
                    w.put_object(BUCKET, "ocr/det.onnx", 30 << 20, "det-2");
                    w.meddle(|account| {
                        let objects = account.buckets.get_mut(BUCKET).unwrap();
                        objects.get_mut("ocr/det.onnx").unwrap().modified -= Duration::from_mins(10);
                    });
                }),
                (25, |w| w.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2")),
            ],
        ),
        (
            "the last file goes back to what it was",
            vec![
                (0, |w| w.put_object(BUCKET, "ocr/det.onnx", 30 << 20, "det-2")),
                (20, |w| w.put_object(BUCKET, "ocr/det.onnx", 40 << 20, "det-1")),
            ],
        ),
    ]
}

/// Nothing of an upload is copied, or served, before all of it is there: whenever the controller looks, and
/// also if it dies meanwhile.
#[test]
fn half_an_upload_is_never_copied() {
    for (what, changes) in uploads() {
        for dies in [false, true] {
            let mut run = ready(object());
            let first = at_source(&run.world);
            for (seconds, change) in &changes {
                // A look every second: every state of the source is seen.
                for _ in 0..*seconds {
                    run.ask().unwrap();
                    run.pass().unwrap();
                    run.world.advance(SECOND);
                    if dies {
                        run.restart();
                    }
                }
                change(&run.world);
            }
            run.ask().unwrap();
            run.pass().unwrap();
            assert!(!run.is_ready(), "{what}");
            assert_eq!(synced(&run).0, "Settling", "{what}");
            settle(&mut run);
            let last = at_source(&run.world);
            assert_eq!(copied(&run.world), BTreeSet::from([first, last]), "{what}");
            assert_eq!(run.status.models[0].active_digest, Some(last.to_string()), "{what}");
        }
    }
}

#[test]
fn the_wait_is_said_and_ends_when_it_says() {
    let mut run = ready(object());
    run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
    run.ask().unwrap();
    let seen = run.world.now();
    let mut again = run.pass().unwrap();
    let (reason, message) = synced(&run);
    assert_eq!(reason, "Settling");
    assert!(
        message.contains("s3://acme-models/ocr/") && message.contains("30 s (refresh.settleSeconds)"),
        "{message}"
    );
    let ready = run.condition("Ready").unwrap();
    assert_eq!((ready.0, ready.1), ("False", "Settling"));
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("1"), "the old one serves");
    let listings = run.world.calls("ListObjectsV2");
    while synced(&run).0 == "Settling" {
        run.world.advance(again);
        again = run.pass().unwrap();
    }
    let waited = run.world.now().saturating_sub(seen);
    assert!((30 * SECOND..31 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(run.world.calls("ListObjectsV2"), listings + 1, "listed again, once, before it is copied");
}

#[test]
fn what_was_uploaded_long_ago_is_copied_at_once() {
    let seconds_until_copy = |age: u32| {
        let world = world();
        world.advance(age * SECOND);
        world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
        world.meddle(|account| {
            // Everything else is ready, so that nothing but the source is waited for.
            account.delays = larder_tests::world::behaviour::Delays {
                file_system: Duration::ZERO,
                mount_target: Duration::ZERO,
                access_point: Duration::ZERO,
                function: Duration::ZERO,
                update: Duration::ZERO,
                ..account.delays
            };
            let objects = account.buckets.get_mut(BUCKET).unwrap();
            objects.get_mut("ocr/rec.onnx").unwrap().modified -= age * SECOND;
        });
        let mut run = run(world, object());
        let start = run.world.now();
        run.until("to copy", |run| run.world.look(|account| !account.copies.is_empty())).unwrap();
        run.world.now().saturating_sub(start).as_secs()
    };
    let (at_once, waits) = (seconds_until_copy(3600), seconds_until_copy(1));
    assert!(at_once < 15, "{at_once}");
    assert!((29..45).contains(&waits), "{waits}");
}

#[test]
fn other_changes_do_not_wait_for_a_source_that_never_settles() {
    let mut run = ready(object());
    run.change(|spec| spec.function.memory_mib = 4096).unwrap();
    for n in 0..60_u32 {
        run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, &format!("rec-{n}"));
        run.ask().unwrap();
        run.pass().unwrap();
        run.world.advance(SECOND);
    }
    assert_eq!(synced(&run).0, "Settling");
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("2"), "it has the memory");
    assert_eq!(copied(&run.world).len(), 1);
}

#[test]
fn a_marker_decides_where_one_is_demanded() {
    let mut run = run(world(), with_marker("larder.json"));
    // Not said yet: everything else is made meanwhile, and nothing is copied.
    run.until("to wait for the marker", |run| {
        run.condition("StorageReady").is_some_and(|c| c.0 == "True") && synced(run).0 == "WaitingForMarker"
    })
    .unwrap();
    run.go_on_for(Duration::from_mins(10)).unwrap();
    assert_eq!((copied(&run.world).len(), run.condition("Stalled")), (0, None));
    let steps: [(Upload, &str); 4] = [
        (|_| (), "there is no larder.json yet"),
        (|w| w.put_text(BUCKET, "ocr/larder.json", "{"), "larder.json cannot be read"),
        (
            |w| w.put_text(BUCKET, "ocr/larder.json", r#"{"files": [{"path": "words.txt", "size": 3}]}"#),
            "words.txt is not there, and larder.json lists it",
        ),
        (
            |w| w.put_text(BUCKET, "ocr/larder.json", r#"{"files": [{"path": "det.onnx", "size": 3}]}"#),
            "det.onnx has 41943040 bytes, and larder.json lists it with 3",
        ),
    ];
    for (step, says) in steps {
        step(&run.world);
        run.ask().unwrap();
        run.pass().unwrap();
        let (reason, message) = synced(&run);
        assert!(reason == "WaitingForMarker" && message.contains(says), "{says}: {reason}: {message}");
    }
    let listed = r#"{"files": [{"path": "det.onnx", "size": 41943040, "note": "kept"}], "by": "ci"}"#;
    run.world.put_text(BUCKET, "ocr/larder.json", listed);
    run.ask().unwrap();
    run.pass().unwrap();
    assert_ne!(synced(&run).0, "Settling", "a marker needs no quiet time");
    settle(&mut run);

    // The next upload: half of it is newer than the marker, and the old model serves on.
    let first = at_source(&run.world);
    run.world.advance(SECOND);
    run.world.put_object(BUCKET, "ocr/det.onnx", 40 << 20, "det-2");
    run.ask().unwrap();
    run.pass().unwrap();
    let (reason, message) = synced(&run);
    assert!(
        reason == "WaitingForMarker" && message.contains("det.onnx is newer than larder.json"),
        "{message}"
    );
    run.go_on_for(Duration::from_mins(10)).unwrap();
    assert_eq!(run.status.models[0].active_digest, Some(first.to_string()));
    run.world.put_object(BUCKET, "ocr/rec.onnx", 40 << 20, "rec-2");
    run.world.put_text(BUCKET, "ocr/larder.json", listed);
    settle(&mut run);
    assert_eq!(copied(&run.world), BTreeSet::from([first, at_source(&run.world)]));
}

#[test]
fn an_empty_marker_is_enough() {
    let mut run = run(world(), with_marker("_SUCCESS"));
    run.go_on_for(Duration::from_mins(5)).unwrap();
    assert_eq!(copied(&run.world).len(), 0);
    run.world.put_object(BUCKET, "ocr/_SUCCESS", 0, "empty");
    settle(&mut run);
    assert_eq!(copied(&run.world), BTreeSet::from([at_source(&run.world)]));
}

#[test]
fn sources_that_do_not_change_are_listed_less_often_within_bounds() {
    let listings_in = |run: &mut Run, time: Duration| {
        let before = run.world.calls("ListObjectsV2");
        run.go_on_for(time).unwrap();
        run.world.calls("ListObjectsV2") - before
    };
    let mut run = run(world(), object());
    settle(&mut run);
    // Every 300 s plus chance at first, every 1,200 s in the end.
    let hour = Duration::from_hours(1);
    let first = listings_in(&mut run, hour);
    assert!((9..=13).contains(&first), "{first}");
    run.go_on_for(5 * hour).unwrap();
    let later = listings_in(&mut run, 10 * hour);
    assert!((26..=31).contains(&later), "{later}");

    // A change is noticed within the longest interval, and then looked at as often as before.
    run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2");
    let changed = run.world.now();
    run.until("to see the change", |run| synced(run).0 == "Settling").unwrap();
    let noticed = run.world.now().saturating_sub(changed);
    assert!(noticed <= Duration::from_mins(22), "{noticed:?}");
    settle(&mut run);
    let again = listings_in(&mut run, hour);
    assert!((9..=13).contains(&again), "{again}");
}
