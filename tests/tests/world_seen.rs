//! What users see of a copy and of what is wrong: how fast it goes, what is told how often, and the tree of
//! `larder explain`. And which roles a namespace may use.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::time::Duration;

use larder::explain::render;
use larder_core::Endpoint;
use larder_core::explain::{Explanation, State, explain};
use larder_core::status::is_progress_alone;
use larder_core::tenants::{RolePolicy, check};
use larder_crds::InferenceEndpoint;
use larder_crds::spec::Aws;
use larder_tests::world::example::{BUCKET, ROLE, defaults, object, world};
use larder_tests::world::run::Run;

/// An endpoint with a model of 5 GiB, and invocations that copy 64 MiB a second.
fn copying() -> Run {
    let world = world();
    world.put_object(BUCKET, "ocr/llm.safetensors", 5 << 30, "llm-1");
    world.meddle(|account| account.delays.copy_rate = 64 << 20);
    let mut run = Run::new(world, object(), defaults()).unwrap();
    run.until("to copy", |run| run.status.models[0].state == "Syncing").unwrap();
    run
}

fn explained(run: &Run) -> Explanation {
    explain(("vision", "signs"), run.object.metadata.generation.unwrap(), &run.status, None)
}

#[test]
fn the_speed_of_a_copy_and_its_end_are_told() {
    let mut run = copying();
    run.go_on_for(Duration::from_secs(30)).unwrap();
    let model = &run.status.models[0];
    let speed = model.bytes_per_second.unwrap();
    assert!((50 << 20..80 << 20).contains(&speed), "{speed} bytes a second");
    let left = (model.bytes - model.bytes_done) / (64 << 20);
    let told = model.remaining_seconds.unwrap();
    assert!((left - left / 4..=left + left / 4 + 2).contains(&told), "{told} s of {left} s");
    let column = run.status.summary.sync.clone().unwrap();
    assert!(column.contains("/5.0 GiB ") && column.ends_with(" MiB/s"), "{column}");

    let tree = explained(&run);
    let models = tree.conditions.iter().find(|it| it.name == "ModelsSynced").unwrap();
    assert_eq!((models.state, models.reason.as_str()), (State::Progressing, "Syncing"));
    assert_eq!((models.parts.len(), models.parts[0].name.as_str()), (1, "ocr"));
    assert!(models.parts[0].message.contains(" of 5.0 GiB, 0 of 3 files, "), "{}", models.parts[0].message);
    // Its name is not known from a status that tells of no function yet.
    assert_eq!(models.parts[0].calls, ["Invoke of the model-sync function"]);

    run.settle().unwrap();
    let model = &run.status.models[0];
    assert_eq!((model.bytes_per_second, model.remaining_seconds), (None, None));
    assert_eq!((model.bytes_done, model.files_done), (model.bytes, model.files));
    assert_eq!((run.status.summary.sync.as_deref(), model.progress_time.as_deref()), (None, None));
}

#[test]
fn a_copy_that_goes_on_is_no_news() {
    let mut run = copying();
    run.go_on_for(Duration::from_secs(5)).unwrap();
    let early = run.status.clone();
    run.go_on_for(Duration::from_secs(20)).unwrap();
    assert!(early.models[0].bytes_done < run.status.models[0].bytes_done);
    assert!(is_progress_alone(&early, &run.status));
    run.settle().unwrap();
    assert!(!is_progress_alone(&early, &run.status));
}

#[test]
fn the_tree_says_what_is_wrong_and_which_call_failed() {
    let world = world();
    world.deny("CreateFunction");
    let mut run = Run::new(world, object(), defaults()).unwrap();
    run.until("to be refused", |run| run.condition("Ready").is_some_and(|(_, why, _)| why == "AccessDenied"))
        .unwrap();
    let tree = explained(&run);
    assert!(!tree.ready);
    let failing: Vec<_> = tree.conditions.iter().filter(|it| it.state == State::Failing).collect();
    assert!(!failing.is_empty());
    assert!(failing.iter().all(|it| it.calls == ["CreateFunction"]), "{failing:?}");
    let text = render(&tree, false);
    assert!(text.starts_with("InferenceEndpoint vision/signs: not ready\n├─ StorageReady"), "{text}");
    assert!(text.contains("✓ fs-") && text.contains(": 2 of 2 mount targets available"), "{text}");
    assert!(
        text.contains("✗ AccessDenied: CreateFunction of ") && text.contains("allow this action"),
        "{text}"
    );
    assert!(!text.contains('\x1b') && render(&tree, true).contains("\x1b[31m✗"), "{text}");

    run.world.allow("CreateFunction");
    run.settle().unwrap();
    let tree = explained(&run);
    let upkeep = tree.conditions.iter().find(|it| it.name == "StorageMaintained").unwrap();
    assert!(upkeep.calls[0].starts_with("Invoke larder-vision-signs-"), "{:?}", upkeep.calls);
    assert!(tree.ready && tree.conditions.iter().all(|it| it.state == State::Ready), "{tree:?}");
    let text = render(&tree, false);
    assert!(
        text.starts_with("InferenceEndpoint vision/signs: ready\n") && text.contains("2 of 2 sandboxes"),
        "{text}"
    );

    // The status of an older generation is none of this one's.
    run.object.metadata.generation = Some(2);
    let tree = explained(&run);
    assert!(!tree.ready && tree.notes.iter().any(|note| note.contains("generation 1")), "{tree:?}");
}

#[test]
fn a_namespace_uses_the_roles_that_it_may() {
    const ASSUMED: &str = "arn:aws:iam::444455556666:role/larder-vision";
    let with = |assumed: Option<&str>| -> InferenceEndpoint {
        let mut object = object();
        object.spec.aws = assumed.map(|role| Aws { role_arn: Some(role.to_owned()), ..Aws::default() });
        object
    };
    let both = format!("{ASSUMED}, {ROLE}");
    for (assumed, allowed, names) in [
        (Some(ASSUMED), Some(both.as_str()), None),
        (Some(ASSUMED), Some("arn:aws:iam::*:role/larder*"), None),
        (None, Some("controller,*"), None),
        (Some(ASSUMED), None, Some(ASSUMED)),
        (Some(ASSUMED), Some(""), Some(ASSUMED)),
        (Some(ASSUMED), Some(ROLE), Some(ASSUMED)),
        (Some(ASSUMED), Some(ASSUMED), Some(ROLE)),
        (None, Some(both.as_str()), Some("the controller's own role")),
        (None, Some("*"), Some("the controller's own role")),
    ] {
        let endpoint = Endpoint::parse(&with(assumed), &defaults()).unwrap();
        assert_eq!(check(RolePolicy::Any, &endpoint, allowed), Ok(()));
        let refused = check(RolePolicy::Annotated, &endpoint, allowed).err().map(|why| why.to_string());
        match (&refused, names) {
            (None, None) => {}
            (Some(why), Some(names)) => {
                for part in [names, "namespace vision", "annotation larder.dev/allowed-roles"] {
                    assert!(why.contains(part), "{part}: {why}");
                }
            }
            (_, _) => assert_eq!(refused.as_deref(), names, "{assumed:?} {allowed:?}"),
        }
    }
}
