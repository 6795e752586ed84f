//! Collecting, and looking again: what a request names goes once it bears the mark that the request relies on, and
//! nothing else does, whenever an invocation is ended, or comes late.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use larder_contract::revision::copy_name;
use larder_contract::source::S3Prefix;
use larder_contract::sync::{SyncEvent, SyncRequest, SyncSource};
use larder_contract::upkeep::{CollectRequest, Inventory, Marked, StoredRevision, VerifyRequest};
use larder_contract::{Digest, Manifest, ManifestModel, ModelSource, Parameters, layout};
use larder_model_sync::collect::{CollectError, collect};
use larder_model_sync::handler::{Answer, EventError, Handler};
use larder_model_sync::inventory::inventory;
use larder_model_sync::listing::list;
use larder_model_sync::retry::Budget;
use larder_model_sync::s3::{self, S3};
use larder_model_sync::transfer::Settings;
use support::Bucket;
use tokio_util::sync::CancellationToken;

const OWNER: &str = "c/vision/signs";
const OBJECTS: &[(&str, usize)] =
    &[("ocr/det.onnx", 3 << 20), ("ocr/keys.txt", 300), ("ocr/rec/model.onnx", 70_000)];
const BYTES: u64 = (3 << 20) + 70_300;

/// A bucket, a folder, and the function that copies from one to the other.
struct Setting {
    bucket: Arc<Bucket>,
    client: aws_sdk_s3::Client,
    dir: tempfile::TempDir,
    owner: Option<String>,
}

impl Setting {
    async fn new() -> Self {
        Self::with(Bucket::new(OBJECTS)).await
    }

    async fn with(bucket: Bucket) -> Self {
        let bucket = Arc::new(bucket);
        let url = bucket.serve().await;
        let shared = s3::client(&s3::config(Some(&url), Some("us-east-1".to_owned())).await);
        let keys = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
        let config = shared.config().to_builder().credentials_provider(keys).build();
        let client = aws_sdk_s3::Client::from_conf(config);
        Self { bucket, client, dir: tempfile::tempdir().unwrap(), owner: Some(OWNER.to_owned()) }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    async fn handle(&self, event: SyncEvent) -> Result<Answer, EventError> {
        let open = |from: &ModelSource| {
            let ModelSource::S3(place) = from else { unreachable!("{from}") };
            S3::new(self.client.clone(), place.clone())
        };
        let settings = Settings { part_bytes: 1 << 20, ..Settings::default() };
        let handler = Handler { open, settings, owner: self.owner.clone() };
        handler.handle(event, self.root(), &CancellationToken::new()).await
    }

    /// What must be there for what is in the bucket now, as the nth copy of it.
    async fn request(&self, nth: u32) -> SyncRequest {
        let place = S3Prefix { bucket: "models".to_owned(), prefix: "ocr/".to_owned() };
        let source = S3::new(self.client.clone(), place.clone());
        let budget = Budget::new(3, 10, std::time::Duration::from_millis(1));
        let content = list(&source, &budget, std::time::Duration::from_secs(20)).await.unwrap().revision;
        let model = ManifestModel {
            name: "ocr".to_owned(),
            task: None,
            revision: copy_name(&content, nth),
            copy_of: (nth > 0).then_some(content),
            parameters: Parameters::default(),
            preload: true,
        };
        let sources = vec![SyncSource { model: "ocr".to_owned(), source: ModelSource::S3(place) }];
        SyncRequest { manifest: Manifest::new(vec![model]), sources, worker: None }
    }

    async fn copy(&self, nth: u32) -> SyncRequest {
        let request = self.request(nth).await;
        let answer = self.handle(SyncEvent::Copy(request.clone())).await.unwrap();
        assert!(matches!(&answer, Answer::Report(report) if report.manifest_present), "{answer:?}");
        request
    }

    async fn is_present(&self, request: &SyncRequest) -> bool {
        let answer = self.handle(SyncEvent::Status(request.clone())).await.unwrap();
        matches!(answer, Answer::Report(report) if report.manifest_present)
    }

    async fn inventory(&self) -> Inventory {
        let answer = self.handle(SyncEvent::Inventory).await.unwrap();
        let Answer::Inventory(inventory) = answer else { return Inventory::default() };
        inventory
    }

    async fn collect(&self, request: CollectRequest) -> Result<Inventory, EventError> {
        self.handle(SyncEvent::Collect(request)).await?;
        Ok(self.inventory().await)
    }

    /// A model that nobody needs any more, and one that is needed: manifest and revision of each.
    async fn two(&self) -> ([Digest; 2], SyncRequest) {
        let old = self.copy(0).await;
        self.bucket.objects.lock().unwrap().get_mut("ocr/keys.txt").unwrap()[0] ^= 1;
        let new = self.copy(0).await;
        (names(&old), new)
    }

    fn spoil(&self, revision: &Digest, file: &str) {
        let path = layout::revision_dir(self.root(), revision).join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"spoiled", 11).unwrap();
    }
}

fn names(request: &SyncRequest) -> [Digest; 2] {
    [request.manifest.digest(), request.manifest.models[0].revision]
}

fn mark(names: &[Digest]) -> CollectRequest {
    CollectRequest { mark: names.to_vec(), ..CollectRequest::default() }
}

fn spare(names: &[Digest]) -> CollectRequest {
    CollectRequest { spare: names.to_vec(), ..CollectRequest::default() }
}

fn delete(names: &[Digest], since: u64) -> CollectRequest {
    let delete = names.iter().map(|digest| Marked { digest: *digest, since }).collect();
    CollectRequest { delete, ..CollectRequest::default() }
}

fn revision<'a>(inventory: &'a Inventory, name: &Digest) -> &'a StoredRevision {
    inventory.revisions.iter().find(|it| it.revision == *name).unwrap()
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn marked_then_deleted_and_the_shared_files_stay() {
    let it = Setting::new().await;
    let (old, new) = it.two().await;
    let before = it.inventory().await;
    assert_eq!((before.revisions.len(), before.manifests.len()), (2, 2));
    // Shared files count once, and records are small.
    assert!((BYTES + 300..BYTES + 5_000).contains(&before.used_bytes), "{before:?}");
    assert_eq!(before.freed_bytes, 0);
    assert_eq!(revision(&before, &old[1]).bytes, BYTES);

    let marked = it.collect(mark(&old)).await.unwrap();
    let since = revision(&marked, &old[1]).marked.unwrap();
    assert_eq!(it.collect(mark(&old)).await.unwrap().manifests, marked.manifests, "it keeps its first mark");

    let prepared = layout::prepared_dir(it.root(), &Digest::of(b"key"));
    fs::create_dir_all(&prepared).unwrap();
    fs::write(prepared.join("prepared.json"), format!(r#"{{"revision":"{}"}}"#, old[1])).unwrap();
    let after = it.collect(delete(&old, since)).await.unwrap();
    assert_eq!((after.revisions.len(), after.manifests.len(), after.is_deleting), (1, 1, false));
    assert!((BYTES..BYTES + 5_000).contains(&after.used_bytes), "{after:?}");
    assert!((300..5_000).contains(&after.freed_bytes), "what is shared is not freed: {after:?}");
    assert!(it.is_present(&new).await);
    // Nothing of it is left but the file that writers lock.
    let hex = old[1].hex();
    let left: Vec<_> =
        files(it.root()).into_iter().filter(|path| path.display().to_string().contains(&hex)).collect();
    assert_eq!(left, [it.root().join("staging").join(format!("{hex}.lock"))]);
    assert!(!prepared.exists());
    let folder = layout::revision_dir(it.root(), &names(&new)[1]);
    for (key, bytes) in it.bucket.objects.lock().unwrap().iter() {
        assert!(fs::read(folder.join(key.strip_prefix("ocr/").unwrap())).unwrap() == *bytes, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_comes_late_does_nothing() {
    let it = Setting::new().await;
    let (old, new) = it.two().await;
    let nothing = it.collect(delete(&old, 0)).await.unwrap();
    assert_eq!(nothing.revisions.len(), 2, "what bears no mark stays");
    let since = revision(&it.collect(mark(&old)).await.unwrap(), &old[1]).marked.unwrap();
    assert_eq!(it.collect(delete(&old, since + 1)).await.unwrap().revisions.len(), 2, "another mark");

    // Needed again, by word or by a copy, between the decision and the deletion.
    let spared = it.collect(spare(&old)).await.unwrap();
    assert_eq!(revision(&spared, &old[1]).marked, None);
    assert_eq!(it.collect(delete(&old, since)).await.unwrap().revisions.len(), 2);
    let new = names(&new);
    let since = revision(&it.collect(mark(&new)).await.unwrap(), &new[1]).marked.unwrap();
    let request = it.request(0).await;
    assert!(!it.is_present(&request).await, "what is marked must be asked for again before it is served");
    it.copy(0).await;
    assert!(it.is_present(&request).await);
    assert_eq!(it.collect(delete(&new, since)).await.unwrap().revisions.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_where_others_are_or_nobody_is_known() {
    let mut it = Setting::new().await;
    let (old, _) = it.two().await;
    it.owner = Some("c/other/signs".to_owned());
    assert!(!it.is_present(&it.request(0).await).await, "it must say that it uses it before it may");
    it.copy(0).await;
    assert_eq!(it.inventory().await.others, [OWNER]);
    for owner in [Some("c/other/signs"), Some(OWNER), None] {
        it.owner = owner.map(str::to_owned);
        let error = it.collect(mark(&old)).await.unwrap_err();
        match owner {
            None => assert!(matches!(error, EventError::Collect(CollectError::NoOwner))),
            Some(_) => assert!(matches!(error, EventError::Collect(CollectError::Shared { .. })), "{error}"),
        }
    }
    assert!(inventory(it.root(), None, SystemTime::now()).revisions.iter().all(|it| it.marked.is_none()));
}

/// Ended after any number of steps of deleting: the next goes on, and what is needed stays whole throughout.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_deletion_is_deleted_later() {
    let it = Setting::new().await;
    let (old, new) = it.two().await;
    let since = revision(&it.collect(mark(&old)).await.unwrap(), &old[1]).marked.unwrap();
    let mut request = delete(&old, since);
    for steps in 0u32.. {
        let left = std::cell::Cell::new(steps);
        let is_over = || left.replace(left.get().saturating_sub(1)) == 0;
        collect(it.root(), Some(OWNER), &request, since, &is_over).unwrap();
        request = CollectRequest::default();
        let found = it.inventory().await;
        assert_eq!(found.revisions.len(), 1, "it is out of the way at once");
        assert!(it.is_present(&new).await);
        if !found.is_deleting {
            assert!(steps > 2, "{steps}");
            break;
        }
    }
    // A mark without what it stood for, as a kill leaves it, goes too.
    let marks = layout::marks_root(it.root());
    fs::write(marks.join(old[1].hex()), since.to_string()).unwrap();
    assert_eq!(it.inventory().await.revisions.len(), 2);
    assert_eq!(it.collect(delete(&old[1..], since)).await.unwrap().revisions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_revision_is_told_and_copied_again_beside_it() {
    let it = Setting::new().await;
    let first = it.copy(0).await;
    let [_, name] = names(&first);
    let verify = || SyncEvent::Verify(VerifyRequest { revisions: vec![name, Digest::of(b"not there")] });
    it.handle(verify()).await.unwrap();
    let look = revision(&it.inventory().await, &name).verified.clone().unwrap();
    assert!(look.damage.is_empty() && look.at > 0, "{look:?}");

    it.spoil(&name, "rec/model.onnx");
    it.handle(verify()).await.unwrap();
    let found = it.inventory().await;
    let look = revision(&found, &name).verified.clone().unwrap();
    assert!(look.damage.contains("rec/model.onnx: want CRC64NVME "), "{look:?}");
    assert!(!revision(&found, &name).is_verifying);

    // Only the damaged file is fetched; the other copy has it right, and this one keeps what it had.
    it.bucket.asked.lock().unwrap().clear();
    let second = it.copy(1).await;
    let fetched: Vec<_> = it.bucket.asked.lock().unwrap().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(fetched, ["ocr/rec/model.onnx"]);
    let [_, other] = names(&second);
    assert_ne!(other, name);
    let content = |of: &Digest| fs::read(layout::revision_dir(it.root(), of).join("rec/model.onnx")).unwrap();
    let right = it.bucket.objects.lock().unwrap()["ocr/rec/model.onnx"].clone();
    assert!(content(&other) == right && content(&name) != right);
    it.handle(SyncEvent::Verify(VerifyRequest { revisions: vec![other] })).await.unwrap();
    let look = revision(&it.inventory().await, &other).verified.clone().unwrap();
    assert_eq!(look.damage, "");

    // What was found out goes with the damaged one: a later copy under its name is another.
    let since = revision(&it.collect(mark(&[name])).await.unwrap(), &name).marked.unwrap();
    it.collect(delete(&[name], since)).await.unwrap();
    it.copy(0).await;
    assert_eq!(revision(&it.inventory().await, &name).verified, None);
}

/// Ended in the middle of a collection, by whatever: each state that leaves is taken up.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_killed_is_gone_on_with() {
    type Kill = fn(&Path, &[Digest; 2]);
    let kills: [Kill; 3] = [
        // The manifest is deleted, and its mark is not.
        |root, [manifest, _]| fs::remove_file(layout::manifest_path(root, manifest)).unwrap(),
        // The revision is out of the way, and all that belongs to it is not.
        |root, [_, revision]| {
            fs::create_dir_all(layout::trash_root(root)).unwrap();
            let aside = layout::trash_root(root).join(format!("{}.0", revision.hex()));
            fs::rename(layout::revision_dir(root, revision), aside).unwrap();
        },
        // Half of it is deleted.
        |root, [_, revision]| {
            let aside = layout::trash_root(root).join(format!("{}.0", revision.hex()));
            fs::create_dir_all(layout::trash_root(root)).unwrap();
            fs::rename(layout::revision_dir(root, revision), &aside).unwrap();
            fs::remove_file(aside.join("keys.txt")).unwrap();
        },
    ];
    for kill in kills {
        let it = Setting::new().await;
        let (old, new) = it.two().await;
        let since = revision(&it.collect(mark(&old)).await.unwrap(), &old[1]).marked.unwrap();
        kill(it.root(), &old);
        let found = it.inventory().await;
        let marked = found.revisions.iter().filter(|it| it.marked.is_some()).map(|it| it.revision);
        let marked: Vec<_> = marked
            .chain(found.manifests.iter().filter(|it| it.marked.is_some()).map(|it| it.manifest))
            .collect();
        assert_eq!(marked.iter().collect::<BTreeSet<_>>(), old.iter().collect(), "both are still to go");
        let after = it.collect(delete(&marked, since)).await.unwrap();
        assert_eq!((after.revisions.len(), after.manifests.len(), after.is_deleting), (1, 1, false));
        assert!(files(&layout::marks_root(it.root())).is_empty());
        assert!(it.is_present(&new).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_goes_on_where_an_earlier_invocation_stopped() {
    let keys: Vec<String> = (0..1_010).map(|n| format!("ocr/{n:04}")).collect();
    // No two are equal: damage to a file that has two names is damage to both.
    let objects: Vec<(&str, usize)> = keys.iter().map(String::as_str).zip(20..).collect();
    let it = Setting::with(Bucket::new(&objects)).await;
    let [_, name] = names(&it.copy(0).await);
    let verify = || SyncEvent::Verify(VerifyRequest { revisions: vec![name] });
    it.handle(verify()).await.unwrap();
    let whole = revision(&it.inventory().await, &name).verified.clone().unwrap();
    assert_eq!(whole.damage, "");

    // What the invocation noted after a thousand files.
    let note = it.root().join("verified").join(format!("{}.json", name.hex()));
    fs::write(&note, format!(r#"{{"files":1000,"wrong":0,"told":[],"before":{}}}"#, whole.at)).unwrap();
    assert_eq!(
        revision(&it.inventory().await, &name).verified,
        Some(whole),
        "till it ends, the last one counts"
    );
    it.spoil(&name, "0003");
    it.spoil(&name, "1005");
    it.handle(verify()).await.unwrap();
    let look = revision(&it.inventory().await, &name).verified.clone().unwrap();
    assert!(look.damage.starts_with("1005: want ") && !look.damage.contains("0003"), "{look:?}");
    // A new one begins at the first file.
    it.handle(verify()).await.unwrap();
    let look = revision(&it.inventory().await, &name).verified.clone().unwrap();
    assert!(look.damage.contains("0003: want ") && look.damage.contains("1005: want "), "{look:?}");
}
