//! What nobody needs any more goes, after its grace and no sooner; what can serve never does, whatever fails. What
//! is found damaged is copied again beside it, rolled out, and then goes, too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::time::Duration;

use larder_contract::revision::copy_name;
use larder_contract::source::S3Prefix;
use larder_contract::{Digest, ModelSource};
use larder_crds::InferenceEndpoint;
use larder_tests::world::account::{Account, Folder};
use larder_tests::world::example::{BUCKET, defaults, object, world};
use larder_tests::world::faults::{Fault, On, Trouble};
use larder_tests::world::run::Run;

const GRACE: Duration = Duration::from_mins(15);

/// An endpoint that keeps no more than it needs.
fn spare(retained: i32) -> InferenceEndpoint {
    let mut object = object();
    object.spec.storage.retain_revisions = retained;
    object.spec.storage.collect_after_seconds = 900;
    object.spec.storage.verify_every_seconds = Some(3600);
    object.spec.rollout.history_limit = 0;
    object
}

#[track_caller]
fn settle(run: &mut Run) {
    run.settle().unwrap_or_else(|stuck| panic!("{stuck}"));
}

fn ready(object: InferenceEndpoint) -> Run {
    let mut run = Run::new(world(), object, defaults()).unwrap();
    settle(&mut run);
    run
}

#[track_caller]
fn go_on_for(run: &mut Run, time: Duration) {
    run.go_on_for(time).unwrap_or_else(|stuck| panic!("{stuck}"));
}

/// Other content at the source, rolled out.
fn replace(run: &mut Run, etag: &str) {
    run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, etag);
    run.ask().unwrap();
    settle(run);
}

fn content(account: &Account) -> Digest {
    let place = S3Prefix { bucket: BUCKET.to_owned(), prefix: "ocr/".to_owned() };
    account.revision_at(&ModelSource::S3(place)).unwrap().0
}

fn folder(run: &Run) -> Folder {
    run.world.look(|account| account.folders.values().find(|it| !it.manifests.is_empty()).unwrap().clone())
}

fn sizes(run: &Run) -> (usize, usize, usize) {
    let folder = folder(run);
    (folder.revisions.len(), folder.manifests.len(), folder.marks.len())
}

#[test]
fn a_replaced_model_is_marked_and_deleted_after_its_grace() {
    let mut run = ready(spare(0));
    replace(&mut run, "rec-2");
    assert_eq!(sizes(&run), (2, 2, 2), "revision and manifest bear a mark");
    let storage = run.status.storage.clone().unwrap();
    assert_eq!(storage.collectable.len(), 1);
    assert_eq!(storage.collectable[0].bytes, 60 << 20);
    assert_eq!(run.status.summary.storage.as_deref(), Some("130.0 MiB, 1 to go"));

    go_on_for(&mut run, Duration::from_mins(14));
    assert_eq!(sizes(&run), (2, 2, 2), "not before");
    go_on_for(&mut run, Duration::from_mins(11));
    assert_eq!(sizes(&run), (1, 1, 0));
    let storage = run.status.storage.clone().unwrap();
    assert_eq!((storage.used_bytes, storage.freed_bytes), (Some(70 << 20), Some(60 << 20)));
    assert!(run.is_ready() && storage.collectable.is_empty());
    assert_eq!(run.condition("StorageMaintained").unwrap().1, "Converged");
}

#[test]
fn what_a_version_of_the_history_names_stays_as_long_as_it() {
    let mut object = spare(0);
    object.spec.rollout.history_limit = 1;
    let mut run = ready(object);
    replace(&mut run, "rec-2");
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!(sizes(&run), (2, 2, 0), "version 1 can be gone back to");
    replace(&mut run, "rec-3");
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!(sizes(&run), (2, 2, 0), "version 1 went, and what it named");
}

#[test]
fn so_many_more_are_retained() {
    let mut run = ready(spare(1));
    for etag in ["rec-2", "rec-3", "rec-4"] {
        replace(&mut run, etag);
    }
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!(sizes(&run), (2, 2, 0), "the newest that nothing names stays");
    let copies = run.world.look(|account| account.folders.len());
    // Going back to it copies nothing.
    let before = folder(&run).copied;
    replace(&mut run, "rec-3");
    assert_eq!(folder(&run).copied, before);
    assert_eq!(run.world.look(|account| account.folders.len()), copies);
    run.change(|spec| spec.storage.retain_revisions = 0).unwrap();
    settle(&mut run);
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!(sizes(&run), (1, 1, 0));
}

#[test]
fn what_is_to_be_retained_after_all_loses_its_mark() {
    let mut run = ready(spare(0));
    replace(&mut run, "rec-2");
    assert_eq!(sizes(&run), (2, 2, 2));
    run.change(|spec| spec.storage.retain_revisions = 1).unwrap();
    settle(&mut run);
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!(sizes(&run), (2, 2, 0));
}

#[test]
fn what_is_needed_again_in_time_is_spared() {
    let mut run = ready(spare(0));
    replace(&mut run, "rec-2");
    let before = folder(&run).copied;
    go_on_for(&mut run, Duration::from_mins(10));
    run.world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "rec-1");
    run.ask().unwrap();
    settle(&mut run);
    assert_eq!(folder(&run).copied, before, "it is not copied again");
    go_on_for(&mut run, Duration::from_mins(10));
    assert_eq!(sizes(&run).0, 2, "the other one's grace begins anew");
    go_on_for(&mut run, 2 * GRACE);
    assert_eq!(sizes(&run), (1, 1, 0));
    assert!(run.is_ready());
}

#[test]
fn a_copy_that_was_given_up_goes_too() {
    let mut run = ready(spare(0));
    run.world.put_object(BUCKET, "ocr/rec.onnx", 300 << 20, "rec-2");
    run.ask().unwrap();
    run.until("to copy", |run| folder(run).staging.len() == 1).unwrap();
    run.world.cut_copies();
    replace(&mut run, "rec-3");
    assert_eq!(folder(&run).staging.len(), 1);
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!((folder(&run).staging.len(), sizes(&run)), (0, (1, 1, 0)));
}

#[test]
fn a_look_at_the_bytes_is_told_while_it_goes_on_and_its_end_soon_after() {
    let mut run = ready(spare(0));
    let is_verifying = |run: &Run| {
        run.condition("StorageMaintained").is_some_and(|(_, reason, message)| {
            reason == "Verifying" && message.contains(&folder(run).revisions.keys().next().unwrap().short())
        })
    };
    run.until("to read again", is_verifying).unwrap_or_else(|stuck| panic!("{stuck}"));
    assert!(run.is_ready(), "it serves meanwhile");
    let begun = run.world.now();
    run.until("to have read", |run| run.status.models[0].last_verified_time.is_some()).unwrap();
    let took = run.world.now().checked_sub(begun).unwrap();
    assert!(took < Duration::from_secs(45), "{took:?}");
    assert!(run.condition("StorageMaintained").is_some_and(|(status, ..)| status == "True"));
    run.stays_quiet().unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn a_damaged_revision_is_told_replaced_by_another_copy_and_collected() {
    let mut run = ready(spare(0));
    let damaged = run.world.look(content);
    go_on_for(&mut run, Duration::from_mins(90));
    assert!(run.status.models[0].last_verified_time.is_some(), "{:#?}", run.status.models);
    run.world.meddle(|account| {
        for folder in account.folders.values_mut() {
            folder.damaged.insert(damaged);
        }
    });
    run.until("to say that it is damaged", |run| {
        run.condition("StorageMaintained").is_some_and(|(status, reason, message)| {
            status == "False" && reason == "Damaged" && message.contains(&damaged.to_string())
        })
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
    settle(&mut run);
    let other = copy_name(&damaged, 1);
    assert!(folder(&run).revisions.contains_key(&other));
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("2"));
    assert_eq!(run.status.models[0].desired_digest, Some(damaged.to_string()), "the content is the same");
    go_on_for(&mut run, 3 * GRACE);
    assert_eq!(folder(&run).revisions.keys().collect::<Vec<_>>(), [&other]);
    // It stays with that copy, however long the first is gone.
    go_on_for(&mut run, Duration::from_mins(200));
    assert!(run.is_ready());
    assert_eq!(run.status.function.as_ref().unwrap().version.as_deref(), Some("2"));
}

/// Nobody can go back to it, so it takes no place in the history.
#[test]
fn a_version_whose_models_are_damaged_is_not_kept() {
    let mut object = spare(0);
    object.spec.rollout.history_limit = 2;
    let mut run = ready(object);
    let first = run.world.look(content);
    replace(&mut run, "rec-2");
    let second = run.world.look(content);
    replace(&mut run, "rec-3");
    let damage = |run: &Run, revision: Digest| {
        run.world.meddle(|account| account.folders.values_mut().for_each(|it| it.damaged.extend([revision])));
    };
    damage(&run, second);
    go_on_for(&mut run, Duration::from_mins(90));
    settle(&mut run);
    let versions = |run: &Run| run.status.history.iter().map(|it| it.version.clone()).collect::<Vec<_>>();
    assert_eq!(versions(&run), ["3", "1"]);
    go_on_for(&mut run, 3 * GRACE);
    let there = folder(&run);
    assert!(there.revisions.contains_key(&first) && !there.revisions.contains_key(&second));
    assert_eq!(sizes(&run), (2, 2, 0));
}

/// Each write of what `act` sets off, with its grace, is lost, late, or the last of its controller.
fn check(act: fn(&mut Run), least_writes: u64) {
    let play = |run: &mut Run| {
        act(run);
        run.go_on_for(3 * GRACE).and_then(|()| run.settle())
    };
    let mut undisturbed = ready(spare(0));
    let before = undisturbed.world.writes();
    play(&mut undisturbed).unwrap_or_else(|stuck| panic!("{stuck}"));
    let writes = undisturbed.world.writes() - before;
    assert!(writes >= least_writes, "only {writes} writes");
    let end = sizes(&undisturbed);
    for trouble in [Trouble::KilledBefore, Trouble::KilledAfter, Trouble::TimedOutAfter, Trouble::ServerError]
    {
        for k in 1..=writes {
            let mut run = ready(spare(0));
            run.world.plan_fault(Fault { on: On::Write(before + k), trouble });
            let at = format!("{trouble:?} at write {k} of {writes}");
            play(&mut run).unwrap_or_else(|stuck| panic!("{at}: {stuck}"));
            assert_eq!(
                (sizes(&run), run.end()),
                (end, undisturbed.end()),
                "{at}: {:#?}",
                run.world.history()
            );
        }
    }
}

#[test]
fn whatever_fails_during_a_collection() {
    check(|run| run.world.put_object(BUCKET, "ocr/rec.onnx", 30 << 20, "rec-2"), 8);
}

#[test]
fn whatever_fails_during_a_repair() {
    let damage = |run: &mut Run| {
        let damaged = run.world.look(content);
        run.world.meddle(|account| account.folders.values_mut().for_each(|it| it.damaged.extend([damaged])));
        run.go_on_for(Duration::from_mins(90)).unwrap_or_else(|stuck| panic!("{stuck}"));
    };
    check(damage, 8);
}

/// A collection that takes effect when its revision is needed again takes nothing away.
#[test]
fn a_late_deletion_meets_a_revision_that_is_needed_again() {
    for k in 1..12 {
        let mut run = ready(spare(0));
        replace(&mut run, "rec-2");
        let before = run.world.writes();
        run.world.plan_fault(Fault { on: On::Write(before + k), trouble: Trouble::TimedOutAfter });
        run.until("to delete", |run| run.world.writes() > before).unwrap();
        run.world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "rec-1");
        run.ask().unwrap();
        settle(&mut run);
        go_on_for(&mut run, 3 * GRACE);
        assert_eq!(sizes(&run), (1, 1, 0));
    }
}

#[test]
fn a_collection_that_is_denied_is_told_and_harms_nothing_else() {
    let mut run = ready(spare(0));
    replace(&mut run, "rec-2");
    run.world.meddle(|account| account.now += GRACE);
    let delete = run.world.calls("Invoke") + 3;
    for n in delete..delete + 400 {
        run.world.plan_fault(Fault { on: On::Operation("Invoke", n), trouble: Trouble::Denied });
    }
    run.until("to say so", |run| {
        run.condition("StorageMaintained")
            .is_some_and(|(status, reason, _)| status == "False" && reason == "AccessDenied")
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"));
}

#[test]
fn two_controllers_collect_as_one() {
    for seed in 0..20 {
        let mut run = Run::new(world(), spare(0), defaults()).unwrap().with_seed(seed).with_controllers(2);
        run.checks_truth = false;
        settle(&mut run);
        for etag in ["rec-2", "rec-3"] {
            replace(&mut run, etag);
            go_on_for(&mut run, Duration::from_mins(12));
        }
        run.world.put_object(BUCKET, "ocr/rec.onnx", 20 << 20, "rec-1");
        run.ask().unwrap();
        settle(&mut run);
        go_on_for(&mut run, 3 * GRACE);
        assert_eq!(sizes(&run), (1, 1, 0), "seed {seed}");
    }
}
