//! The copy against a source in memory that does everything wrong that a source can do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails there and then"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt as _;
use larder_contract::source::S3Prefix;
use larder_contract::sync::{ModelState, SyncEvent, SyncReport, SyncRequest, SyncSource, WorkerState};
use larder_contract::{Digest, Manifest, ManifestModel, ModelSource, Worker, layout};
use larder_model_sync::checksum::{Algorithm, Checksum};
use larder_model_sync::copy::{CopyError, Ending, copy};
use larder_model_sync::expected::Expected;
use larder_model_sync::handler::{Answer, Handler};
use larder_model_sync::listing::{Listing, as_model};
use larder_model_sync::source::{Body, Class, Listed, Page, Source, SourceError, Store, Whole};
use larder_model_sync::store;
use larder_model_sync::transfer::{Progress, Settings};
use tokio_util::sync::CancellationToken;

/// What goes wrong with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Truncated,
    TooLong,
    Corrupted,
    Reset,
    Busy,
    Stalled,
    Swapped,
    Denied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Never,
    /// The read with this number, counted from 0.
    Nth(usize),
    Always,
}

/// What the source keeps of an object's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    Whole(Algorithm),
    /// Of parts of this length, but for the last.
    Composite(Algorithm, usize),
    /// The same, with a first part that is 100 bytes shorter.
    Uneven(Algorithm, usize),
    /// A composite whose borders it does not tell.
    Borderless(Algorithm, usize),
}

impl Keeps {
    fn parts(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Nothing | Self::Whole(_) => vec![bytes],
            Self::Composite(_, part) | Self::Borderless(_, part) => bytes.chunks(part).collect(),
            Self::Uneven(_, part) => {
                let (first, rest) = bytes.split_at(bytes.len().min(part - 100));
                [first].into_iter().chain(rest.chunks(part)).collect()
            }
        }
    }

    fn expected(self, bytes: &[u8]) -> Option<Expected> {
        match self {
            Self::Nothing => None,
            Self::Whole(algorithm) => Some(Expected::Whole(Checksum::of(algorithm, bytes))),
            Self::Composite(algorithm, _) | Self::Uneven(algorithm, _) | Self::Borderless(algorithm, _) => {
                let parts: Vec<_> = self.parts(bytes).iter().map(|p| Checksum::of(algorithm, p)).collect();
                Some(Expected::composite(algorithm, &parts))
            }
        }
    }
}

#[derive(Debug)]
struct Memory {
    place: S3Prefix,
    objects: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    when: When,
    keeps: Keeps,
    reads: AtomicUsize,
    /// How many times the length of a part was asked for.
    asked: AtomicUsize,
    /// Reads beyond this number wait.
    open: tokio::sync::Semaphore,
}

impl Memory {
    fn new(prefix: &str, files: &[(&str, usize)]) -> Self {
        let objects = files.iter().map(|(name, length)| {
            let bytes = (0..*length).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect();
            (format!("{prefix}{name}"), bytes)
        });
        Self {
            place: S3Prefix { bucket: "bucket".to_owned(), prefix: prefix.to_owned() },
            objects: objects.collect(),
            fault: Fault::Busy,
            when: When::Never,
            keeps: Keeps::Whole(Algorithm::Crc64Nvme),
            reads: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            open: tokio::sync::Semaphore::new(10_000),
        }
    }

    fn listed(&self) -> Vec<Listed> {
        let listed = |(key, bytes): (&String, &Vec<u8>)| Listed {
            key: key.clone(),
            size: bytes.len() as u64,
            etag: Digest::of(bytes).short(),
        };
        self.objects.iter().map(listed).collect()
    }

    fn listing(&self) -> Listing {
        as_model(&Source::place(self), &self.place.prefix, self.listed()).unwrap()
    }

    fn error(&self, class: Class) -> SourceError {
        SourceError {
            operation: "GetObject",
            resource: Source::place(self),
            class,
            store: Store::S3,
            code: "Test".to_owned(),
            request_id: None,
            source: None,
        }
    }
}

impl Source for Memory {
    fn place(&self) -> String {
        self.address(&self.place.prefix)
    }

    fn prefix(&self) -> &str {
        &self.place.prefix
    }

    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.place.bucket)
    }

    async fn list(&self, token: Option<String>) -> Result<Page, SourceError> {
        let from: usize = token.map_or(0, |t| t.parse().unwrap());
        let all = self.listed();
        let to = (from + 2).min(all.len());
        Ok(Page {
            objects: all[from..to].to_vec(),
            next: (to < all.len()).then(|| to.to_string()),
            image: None,
        })
    }

    async fn expected(&self, key: &str, _etag: &str) -> Result<Option<Expected>, SourceError> {
        Ok(self.keeps.expected(&self.objects[key]))
    }

    async fn part_length(&self, key: &str, _etag: &str, number: u32) -> Result<Option<u64>, SourceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let parts = self.keeps.parts(&self.objects[key]);
        let is_told = !matches!(self.keeps, Keeps::Borderless(..));
        Ok(parts.get(number as usize - 1).map(|part| part.len() as u64).filter(|_| is_told))
    }

    async fn read_whole(&self, key: &str, etag: &str) -> Result<Whole, SourceError> {
        let bytes = &self.objects[key];
        let body = self.read(key, etag, 0..bytes.len() as u64).await?;
        Ok(Whole { expected: self.keeps.expected(bytes), body })
    }

    async fn read(&self, key: &str, _etag: &str, range: Range<u64>) -> Result<Body, SourceError> {
        let nth = self.reads.fetch_add(1, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let bytes = self.objects[key][range].to_vec();
        let half = bytes.len() / 2;
        let now = match self.when {
            When::Never => false,
            When::Nth(n) => n == nth,
            When::Always => true,
        };
        let chunks = if now {
            match self.fault {
                Fault::Busy => return Err(self.error(Class::Throttled)),
                Fault::Swapped => return Err(self.error(Class::Changed)),
                Fault::Denied => return Err(self.error(Class::Denied)),
                Fault::Truncated => vec![Ok(bytes[..half].to_vec())],
                Fault::TooLong => vec![Ok(bytes), Ok(vec![0])],
                Fault::Corrupted => {
                    let mut wrong = bytes;
                    wrong[half] ^= 1;
                    vec![Ok(wrong)]
                }
                Fault::Reset => vec![Ok(bytes[..half].to_vec()), Err(self.error(Class::Transient))],
                Fault::Stalled => {
                    let first = futures::stream::iter([Ok(Bytes::from(bytes[..half].to_vec()))]);
                    return Ok(first.chain(futures::stream::pending()).boxed());
                }
            }
        } else {
            vec![Ok(bytes[..half].to_vec()), Ok(bytes[half..].to_vec())]
        };
        Ok(futures::stream::iter(chunks).map(|chunk| chunk.map(Bytes::from)).boxed())
    }
}

const FILES: &[(&str, usize)] = &[("det/model.onnx", 10_000), ("empty", 0), ("rec.onnx", 2_500)];

/// Only a source that falls silent needs the time-out: elsewhere it must not fire on a busy machine.
fn settings_for(fault: Fault) -> Settings {
    let stall = if fault == Fault::Stalled { Duration::from_millis(100) } else { Duration::from_secs(30) };
    Settings { stall, ..settings() }
}

fn settings() -> Settings {
    Settings {
        part_bytes: 1_000,
        parts_in_flight: 4,
        attempts: 3,
        retries: 20,
        first_wait: Duration::from_millis(1),
        stall: Duration::from_secs(30),
        worker: None,
    }
}

async fn run(
    source: &Arc<Memory>,
    root: &Path,
    stop: &CancellationToken,
) -> (Result<Ending, CopyError>, Progress) {
    let progress = Arc::new(Progress::default());
    let listing = source.listing();
    let settings = settings_for(source.fault);
    let copied = copy(Arc::clone(source), root, &listing, &settings, &progress, stop);
    let ending = tokio::time::timeout(Duration::from_mins(1), copied).await.expect("every wait has a bound");
    (ending, Arc::try_unwrap(progress).unwrap())
}

/// The revision's folder holds exactly the source's files, read-only.
fn assert_complete(source: &Memory, root: &Path) {
    let folder = layout::revision_dir(root, &source.listing().revision);
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
            found.insert(format!("{}{name}", source.place.prefix), fs::read(&path).unwrap());
        }
    }
    assert!(found == source.objects, "the folder differs from the source");
    assert!(!layout::staging_dir(root, &source.listing().revision).exists());
}

#[tokio::test]
async fn what_passes_ends_in_the_right_bytes() {
    for (fault, when) in [
        (Fault::Busy, When::Never),
        (Fault::Busy, When::Nth(0)),
        (Fault::Truncated, When::Nth(3)),
        (Fault::TooLong, When::Nth(5)),
        (Fault::Reset, When::Nth(12)),
        (Fault::Stalled, When::Nth(7)),
        (Fault::Corrupted, When::Nth(4)),
    ] {
        let root = tempfile::tempdir().unwrap();
        let source = Arc::new(Memory { fault, when, ..Memory::new("m/", FILES) });
        let (ending, progress) = run(&source, root.path(), &CancellationToken::new()).await;
        assert_eq!(ending.unwrap(), Ending::Copied, "{fault:?} {when:?}");
        assert_complete(&source, root.path());
        let size = store::size(root.path(), &source.listing().revision).unwrap();
        assert_eq!((size.files, size.bytes), (3, 12_500));
        // The bar ends where it should, whatever was fetched twice.
        assert_eq!(progress.bytes.into_inner(), 12_500, "{fault:?}");

        let reads = source.reads.load(Ordering::SeqCst);
        let (again, _) = run(&source, root.path(), &CancellationToken::new()).await;
        assert_eq!(again.unwrap(), Ending::Present);
        assert_eq!(source.reads.load(Ordering::SeqCst), reads, "a complete revision is not read again");
    }
}

/// A source that always gives wrong bytes of this one file.
async fn never_published(length: usize) {
    let root = tempfile::tempdir().unwrap();
    let file = [("model.onnx", length)];
    let source = Memory { fault: Fault::Corrupted, when: When::Always, ..Memory::new("m/", &file) };
    let source = Arc::new(source);
    let (ending, _) = run(&source, root.path(), &CancellationToken::new()).await;
    assert!(ending.unwrap_err().to_string().contains("the content is wrong after 2 downloads"));
    assert!(!store::is_present(root.path(), &source.listing().revision));
}

#[tokio::test]
async fn what_is_wrong_in_a_file_of_several_parts_is_never_published() {
    never_published(10_000).await;
}

#[tokio::test]
async fn what_is_wrong_in_a_file_of_one_part_is_never_published() {
    never_published(700).await;
}

#[tokio::test]
async fn what_does_not_pass_fails_by_name_and_publishes_nothing() {
    for (fault, when, state, words) in [
        // Which part fails first is chance.
        (Fault::Truncated, When::Always, ModelState::Failed, " bytes, got "),
        (Fault::Reset, When::Always, ModelState::Failed, "no good answer"),
        (Fault::Busy, When::Always, ModelState::Failed, "fewer requests"),
        (Fault::Stalled, When::Always, ModelState::Failed, "no byte for"),
        (Fault::Corrupted, When::Always, ModelState::Failed, "s3://bucket/m/"),
        (
            Fault::Corrupted,
            When::Always,
            ModelState::Failed,
            "the content is wrong after 2 downloads: want CRC64NVME",
        ),
        (Fault::Denied, When::Nth(2), ModelState::Failed, "access is denied"),
        (
            Fault::Swapped,
            When::Nth(6),
            ModelState::SourceChanged,
            "was replaced or removed while it was copied",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        let source = Arc::new(Memory { fault, when, ..Memory::new("m/", FILES) });
        let (ending, _) = run(&source, root.path(), &CancellationToken::new()).await;
        let error = ending.unwrap_err();
        assert_eq!(error.state(), state, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!store::is_present(root.path(), &source.listing().revision));

        // And all is well once it is mended.
        let mended = Arc::new(Memory::new("m/", FILES));
        assert_eq!(run(&mended, root.path(), &CancellationToken::new()).await.0.unwrap(), Ending::Copied);
        assert_complete(&mended, root.path());
    }
}

#[tokio::test]
async fn a_stopped_copy_goes_on_and_fetches_nothing_twice() {
    let root = tempfile::tempdir().unwrap();
    let mut source = Memory::new("m/", FILES);
    source.open = tokio::sync::Semaphore::new(5);
    let source = Arc::new(source);
    let stop = CancellationToken::new();
    let (first, ()) = tokio::join!(run(&source, root.path(), &stop), async {
        while source.reads.load(Ordering::SeqCst) < 9 || source.open.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // Five went through and four wait: whatever is finished by now is kept.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    });
    assert_eq!(first.0.unwrap(), Ending::Stopped);
    let kept = store::progress(root.path(), &source.listing().revision).unwrap().1;
    assert!(kept.parts() > 0 && !store::is_present(root.path(), &source.listing().revision));

    let fresh = Arc::new(Memory::new("m/", FILES));
    let (second, progress) = run(&fresh, root.path(), &CancellationToken::new()).await;
    assert_eq!(second.unwrap(), Ending::Copied);
    assert_complete(&fresh, root.path());
    let all = 10 + 1 + 3;
    assert_eq!(progress.parts_found.into_inner(), kept.parts() as u64);
    assert_eq!(progress.parts_fetched.into_inner(), (all - kept.parts()) as u64);
}

#[tokio::test]
async fn other_part_lengths_and_lost_files_start_over() {
    let root = tempfile::tempdir().unwrap();
    let source = Arc::new(Memory { fault: Fault::Denied, when: When::Nth(9), ..Memory::new("m/", FILES) });
    let (revision, progress) = (source.listing().revision, Arc::new(Progress::default()));
    // Few at once, so that some are surely done before the one that fails begins.
    let few = Settings { parts_in_flight: 1, ..settings() };
    let stop = CancellationToken::new();
    copy(Arc::clone(&source), root.path(), &source.listing(), &few, &progress, &stop).await.unwrap_err();
    let (_, kept) = store::progress(root.path(), &revision).unwrap();
    assert!(kept.parts() > 0);
    // The journal says that parts are there, but the files are gone.
    fs::remove_dir_all(layout::staging_dir(root.path(), &revision).join("files")).unwrap();
    let fresh = Arc::new(Memory::new("m/", FILES));
    assert_eq!(run(&fresh, root.path(), &CancellationToken::new()).await.0.unwrap(), Ending::Copied);
    assert_complete(&fresh, root.path());

    let root = tempfile::tempdir().unwrap();
    let source = Arc::new(Memory { fault: Fault::Denied, when: When::Nth(9), ..Memory::new("m/", FILES) });
    run(&source, root.path(), &CancellationToken::new()).await.0.unwrap_err();
    let (listing, progress) = (fresh.listing(), Arc::new(Progress::default()));
    let other = Settings { part_bytes: 700, ..settings() };
    let stop = CancellationToken::new();
    let ending = copy(Arc::clone(&fresh), root.path(), &listing, &other, &progress, &stop).await;
    assert_eq!(ending.unwrap(), Ending::Copied);
    assert_eq!(progress.parts_found.load(Ordering::SeqCst), 0);
    assert_complete(&fresh, root.path());
}

#[tokio::test]
async fn of_two_at_once_one_writes_and_the_other_says_so() {
    let root = tempfile::tempdir().unwrap();
    let mut source = Memory::new("m/", FILES);
    source.open = tokio::sync::Semaphore::new(2);
    let source = Arc::new(source);
    let stop = CancellationToken::new();
    let (first, second) = tokio::join!(run(&source, root.path(), &stop), async {
        while source.reads.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        let second = run(&source, root.path(), &stop).await.0;
        assert!(store::is_running(root.path(), &source.listing().revision, SystemTime::now()));
        source.open.add_permits(1_000);
        second
    });
    assert_eq!(second.unwrap(), Ending::Running);
    assert_eq!(first.0.unwrap(), Ending::Copied);
    assert_eq!(source.reads.load(Ordering::SeqCst), 13);
    assert_complete(&source, root.path());
}

#[tokio::test]
async fn many_at_once_leave_one_right_revision() {
    let root = tempfile::tempdir().unwrap();
    let source = Arc::new(Memory::new("m/", FILES));
    let stop = CancellationToken::new();
    let endings = futures::future::join_all((0..8).map(|_| run(&source, root.path(), &stop))).await;
    for (ending, _) in endings {
        assert!(matches!(ending.unwrap(), Ending::Copied | Ending::Running | Ending::Present));
    }
    assert_complete(&source, root.path());
    assert_eq!(source.reads.load(Ordering::SeqCst), 13);
}

#[tokio::test]
async fn every_kind_of_checksum_lets_right_bytes_pass_and_no_others() {
    use Algorithm::{Crc32, Crc32C, Crc64Nvme, Md5, Sha1, Sha256, Sha512};
    let mut kinds = Vec::new();
    for algorithm in [Crc32, Crc32C, Crc64Nvme, Sha1, Sha256, Sha512, Md5] {
        kinds.extend([
            Keeps::Whole(algorithm),
            // Borders that ours meet, that ours do not, that are not equally far apart, and none.
            Keeps::Composite(algorithm, 2_000),
            Keeps::Composite(algorithm, 1_500),
            Keeps::Uneven(algorithm, 2_000),
            Keeps::Uneven(algorithm, 700),
            Keeps::Composite(algorithm, 100_000),
        ]);
    }
    for keeps in kinds {
        let root = tempfile::tempdir().unwrap();
        let source = Arc::new(Memory { keeps, ..Memory::new("m/", FILES) });
        let (ending, progress) = run(&source, root.path(), &CancellationToken::new()).await;
        assert_eq!(ending.unwrap(), Ending::Copied, "{keeps:?}");
        assert_complete(&source, root.path());
        assert_eq!(progress.parts_fetched.into_inner(), 14, "{keeps:?}: right bytes are fetched once");
        let asked = source.asked.load(Ordering::SeqCst);
        match keeps {
            Keeps::Nothing | Keeps::Whole(_) | Keeps::Borderless(..) => assert_eq!(asked, 0, "{keeps:?}"),
            // One question for each file that was uploaded in several parts.
            Keeps::Composite(_, part) => assert_eq!(asked, if part > 10_000 { 0 } else { 2 }, "{keeps:?}"),
            Keeps::Uneven(..) => assert!(asked > 2, "{keeps:?}"),
        }

        for nth in [0, 12] {
            let root = tempfile::tempdir().unwrap();
            let faulty =
                Memory { fault: Fault::Corrupted, when: When::Nth(nth), keeps, ..Memory::new("m/", FILES) };
            let faulty = Arc::new(faulty);
            assert_eq!(run(&faulty, root.path(), &CancellationToken::new()).await.0.unwrap(), Ending::Copied);
            assert_complete(&faulty, root.path());
            let reads = faulty.reads.load(Ordering::SeqCst);
            assert!(reads > 13, "{keeps:?}: what was wrong was fetched again");
        }
        let root = tempfile::tempdir().unwrap();
        let always =
            Memory { fault: Fault::Corrupted, when: When::Always, keeps, ..Memory::new("m/", FILES) };
        let error = run(&Arc::new(always), root.path(), &CancellationToken::new()).await.0.unwrap_err();
        assert!(error.to_string().contains("the content is wrong after 2 downloads: want "), "{error}");
    }
}

#[tokio::test]
async fn without_a_checksum_the_length_and_the_condition_decide() {
    for keeps in [Keeps::Nothing, Keeps::Borderless(Algorithm::Sha256, 1_500)] {
        let root = tempfile::tempdir().unwrap();
        let source = Arc::new(Memory { keeps, ..Memory::new("m/", FILES) });
        assert_eq!(run(&source, root.path(), &CancellationToken::new()).await.0.unwrap(), Ending::Copied);
        assert_complete(&source, root.path());
    }
}

/// A request for models whose revisions are those of `expected`, from the places of the same name.
fn request(expected: &[(&str, &Memory)]) -> SyncRequest {
    let model = |(name, memory): &(&str, &Memory)| ManifestModel {
        name: (*name).to_owned(),
        task: None,
        revision: memory.listing().revision,
        copy_of: None,
        parameters: larder_contract::Parameters::default(),
        preload: true,
    };
    let source = |(name, memory): &(&str, &Memory)| SyncSource {
        model: (*name).to_owned(),
        source: ModelSource::S3(memory.place.clone()),
    };
    SyncRequest {
        manifest: Manifest::new(expected.iter().map(model).collect()),
        sources: expected.iter().map(source).collect(),
        worker: None,
    }
}

async fn handle(event: SyncEvent, root: &Path, really: &[(&str, &[(&str, usize)])]) -> SyncReport {
    let open = |from: &ModelSource| {
        let ModelSource::S3(S3Prefix { prefix, .. }) = from else { panic!("{from}") };
        let files = really.iter().find(|(place, _)| place == prefix).map_or(&[][..], |(_, files)| *files);
        Memory::new(prefix, files)
    };
    let handler = Handler { open, settings: settings(), owner: Some("me".to_owned()) };
    match handler.handle(event, root, &CancellationToken::new()).await.unwrap() {
        Answer::Report(report) => report,
        other @ (Answer::Inventory(_) | Answer::Done) => panic!("{other:?}"),
    }
}

fn states(report: &SyncReport) -> Vec<(&str, ModelState)> {
    report.models.iter().map(|m| (m.model.as_str(), m.state)).collect()
}

#[tokio::test]
async fn the_manifest_comes_last_and_every_model_has_its_own_fate() {
    use ModelState::{Failed, Pending, Ready, SourceChanged};
    let root = tempfile::tempdir().unwrap();
    let (a, b, c) = (
        Memory::new("a/", FILES),
        Memory::new("b/", &[("model.onnx", 1_500)]),
        Memory::new("c/", &[("model.onnx", 100)]),
    );
    let request = request(&[("a", &a), ("b", &b), ("c", &c)]);
    let manifest = layout::manifest_path(root.path(), &request.manifest.digest());
    let status = SyncEvent::Status(request.clone());
    let report = handle(status.clone(), root.path(), &[]).await;
    assert_eq!(states(&report), [("a", Pending), ("b", Pending), ("c", Pending)]);

    // b is empty, and c is not what was asked for.
    let really: &[(&str, &[(&str, usize)])] = &[("a/", FILES), ("c/", &[("model.onnx", 101)])];
    let report = handle(SyncEvent::Copy(request.clone()), root.path(), really).await;
    assert_eq!(states(&report), [("a", Ready), ("b", Failed), ("c", SourceChanged)]);
    assert!(report.models[1].message.starts_with("s3://bucket/b/ holds no files"));
    assert!(report.models[2].message.contains("s3://bucket/c/ is now revision sha256:"));
    assert!(!report.manifest_present && !report.running && !manifest.exists());
    let told = handle(status.clone(), root.path(), &[]).await;
    assert!(told.inventory.is_some(), "a status says what lies there");
    assert_eq!(SyncReport { inventory: None, ..told }, report, "status says the same afterwards");

    let really: &[(&str, &[(&str, usize)])] =
        &[("a/", FILES), ("b/", &[("model.onnx", 1_500)]), ("c/", &[("model.onnx", 100)])];
    let report = handle(SyncEvent::Copy(request.clone()), root.path(), really).await;
    assert_eq!(states(&report), [("a", Ready), ("b", Ready), ("c", Ready)]);
    assert!(report.manifest_present && report.models.iter().all(|m| m.message.is_empty()));
    assert_eq!(
        (report.models[0].bytes_done, report.models[0].bytes_total, report.models[0].files),
        (12_500, 12_500, 3)
    );
    assert_eq!(fs::read(&manifest).unwrap(), request.manifest.canonical());
    let told = handle(status, root.path(), &[]).await;
    assert_eq!(SyncReport { inventory: None, ..told }, report);
}

#[tokio::test]
async fn a_request_that_names_no_source_says_which() {
    let root = tempfile::tempdir().unwrap();
    let mut request = request(&[("a", &Memory::new("a/", FILES))]);
    request.sources.clear();
    let report = handle(SyncEvent::Copy(request), root.path(), &[]).await;
    assert_eq!(report.models[0].state, ModelState::Failed);
    assert!(report.models[0].message.contains("names no source for model \"a\""));
}

#[tokio::test]
async fn a_file_system_that_cannot_be_written_is_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a-file");
    fs::write(&root, b"").unwrap();
    let request = request(&[("a", &Memory::new("a/", FILES))]);
    for (event, words) in [
        (SyncEvent::Copy(request.clone()), "cannot make the folder "),
        // Nobody reads what a copy answers, and it could not write it down.
        (SyncEvent::Status(request), "cannot write to the folder "),
    ] {
        let report = handle(event, &root, &[("a/", FILES)]).await;
        assert_eq!(states(&report), [("a", ModelState::Failed)]);
        assert!(report.models[0].message.starts_with(words), "{}", report.models[0].message);
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_written_is_in_the_report() {
    let root = tempfile::tempdir().unwrap();
    let request = request(&[("a", &Memory::new("a/", FILES))]);
    fs::write(root.path().join("manifests"), b"").unwrap();
    for event in [SyncEvent::Copy(request.clone()), SyncEvent::Status(request.clone())] {
        let report = handle(event, root.path(), &[("a/", FILES)]).await;
        assert_eq!(states(&report), [("a", ModelState::Failed)]);
        let message = &report.models[0].message;
        assert!(
            message.starts_with("every model is present, the manifest is not: cannot write"),
            "{message}"
        );
    }
    fs::remove_file(root.path().join("manifests")).unwrap();
    let report = handle(SyncEvent::Copy(request), root.path(), &[("a/", FILES)]).await;
    assert_eq!((states(&report), report.manifest_present), (vec![("a", ModelState::Ready)], true));
}

/// Three workers, one after the other and all at once: whatever the source keeps of a file that they wrote
/// together, right bytes pass, and wrong ones are found at the end and fetched again.
#[tokio::test]
async fn what_workers_fetched_is_verified_as_one() {
    use Algorithm::{Crc32, Crc64Nvme, Md5, Sha256};
    for keeps in [
        Keeps::Nothing,
        Keeps::Whole(Crc64Nvme),
        Keeps::Whole(Sha256),
        Keeps::Composite(Crc32, 2_000),
        Keeps::Composite(Crc32, 1_500),
        Keeps::Composite(Sha256, 2_000),
        Keeps::Uneven(Md5, 700),
        Keeps::Borderless(Sha256, 1_500),
    ] {
        for (when, is_together) in
            [(When::Never, false), (When::Never, true), (When::Nth(1), false), (When::Nth(7), true)]
        {
            let is_found = !matches!(keeps, Keeps::Nothing | Keeps::Borderless(..));
            if when != When::Never && !is_found {
                continue;
            }
            let root = tempfile::tempdir().unwrap();
            let source =
                Arc::new(Memory { fault: Fault::Corrupted, when, keeps, ..Memory::new("m/", FILES) });
            let listing = source.listing();
            let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
            let workers: Vec<Settings> =
                Worker::all(3).map(|worker| Settings { worker: Some(worker), ..settings() }).collect();
            let one = |settings: &Settings| {
                let (source, settings) = (Arc::clone(&source), settings.clone());
                let (listing, progress, stop, root) = (&listing, &progress, &stop, root.path());
                async move { copy(source, root, listing, &settings, progress, stop).await.unwrap() }
            };
            let mut endings = Vec::new();
            if is_together {
                endings = futures::future::join_all(workers.iter().map(one)).await;
            } else {
                for settings in &workers {
                    endings.push(one(settings).await);
                }
                assert_eq!(endings, [Ending::Shared, Ending::Shared, Ending::Copied], "{keeps:?}");
            }
            let commits = endings.iter().filter(|ending| **ending == Ending::Copied).count();
            assert_eq!(commits, 1, "{keeps:?}: {endings:?}");
            assert_complete(&source, root.path());
            if when == When::Never {
                assert_eq!(progress.parts_fetched.load(Ordering::Relaxed), 14, "{keeps:?}");
            }
        }
    }
}

/// A worker that was stopped goes on; another number of workers, or one by itself, finishes what it left.
#[tokio::test]
async fn another_number_of_workers_goes_on_with_what_is_there() {
    for next in [Some(2), Some(5), None] {
        let root = tempfile::tempdir().unwrap();
        let mut source = Memory::new("m/", FILES);
        source.open = tokio::sync::Semaphore::new(2);
        let source = Arc::new(source);
        let worker = |index, of| Settings { worker: Some(Worker::new(index, of).unwrap()), ..settings() };
        let run = |settings: Settings, stop: CancellationToken| {
            let (source, root, listing) = (Arc::clone(&source), root.path().to_owned(), source.listing());
            tokio::spawn(async move {
                let progress = Arc::new(Progress::default());
                copy(source, &root, &listing, &settings, &progress, &stop).await.unwrap()
            })
        };
        let stop = CancellationToken::new();
        let first = run(worker(0, 3), stop.clone());
        let revision = source.listing().revision;
        let noted = || store::progress(root.path(), &revision).map_or(0, |(_, done)| done.parts());
        while noted() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let state = |at: SystemTime| store::workers(root.path(), &revision, at)[0].state;
        assert_eq!(state(SystemTime::now()), WorkerState::Running);
        assert_eq!(
            state(SystemTime::now() + Duration::from_mins(2)),
            WorkerState::Stalled,
            "its heartbeat is old"
        );
        // A second delivery of the same share, and a copy by one, find it at work and leave.
        for settings in [worker(0, 3), settings()] {
            assert_eq!(run(settings, CancellationToken::new()).await.unwrap(), Ending::Running);
        }
        stop.cancel();
        assert_eq!(first.await.unwrap(), Ending::Stopped);
        let kept = noted();
        source.open.add_permits(10_000);
        let reads = source.reads.load(Ordering::SeqCst);
        let mut last = Ending::Stopped;
        for settings in next.map_or_else(|| vec![settings()], |of| (0..of).map(|i| worker(i, of)).collect()) {
            last = run(settings, CancellationToken::new()).await.unwrap();
        }
        assert_eq!(last, Ending::Copied, "{next:?}");
        assert_complete(&source, root.path());
        // 13 parts have bytes; the empty file is made without a request.
        let fetched = source.reads.load(Ordering::SeqCst) - reads;
        assert!(fetched + kept <= 14 && fetched < 13, "{next:?}: {fetched} after {kept}");
    }
}
