//! Revisions are read again on request, as far as one invocation comes; the next goes on from there.
//!
//! ```text
//! verified/<sha>.json         what was looked at, and what it came to
//! verified/<sha>.lock         held by the one process that reads
//! verified/<sha>.heartbeat    the time of its last sign of life
//! ```

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use larder_contract::upkeep::Verified;
use larder_contract::{Digest, layout};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::inventory::seconds;
use crate::store::{self, Heartbeat, StoreError, disk};
use crate::transfer::{Progress, TransferError, blocking};
use crate::verify::{Files, Problem, look_at_all, open, unexpected};

/// After how many bytes, or files, it is noted how far it came. A longer file is read at one go.
const BYTES: u64 = 1 << 30;
const FILES: usize = 1_000;

/// How many problems are kept for people.
const TOLD: usize = 5;

/// How far a look at a revision is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    /// How many files were looked at.
    files: usize,
    /// How many things are wrong so far, and the first of them in words.
    wrong: usize,
    told: Vec<String>,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    /// When the one before it, which found nothing wrong, came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
}

fn path(root: &Path, revision: &Digest, extension: &str) -> PathBuf {
    root.join("verified").join(format!("{}.{extension}", revision.hex()))
}

/// The files in which it is kept, and by which it shows that it goes on.
pub(crate) fn files(root: &Path, revision: &Digest) -> [PathBuf; 2] {
    ["json", "heartbeat"].map(|extension| path(root, revision, extension))
}

fn look(root: &Path, revision: &Digest) -> Option<Look> {
    serde_json::from_slice(&fs::read(path(root, revision, "json")).ok()?).ok()
}

/// What the last look that came to its end said.
#[must_use]
pub fn verified(root: &Path, revision: &Digest) -> Option<Verified> {
    let look = look(root, revision)?;
    let more = look.wrong - look.told.len().min(look.wrong);
    let mut damage = look.told.join("; ");
    if more > 0 {
        damage = format!("{damage}; and {more} more");
    }
    // While a look goes on, the one before it counts.
    match look.ended {
        Some(at) => Some(Verified { at, damage }),
        None => Some(Verified { at: look.before?, damage: String::new() }),
    }
}

/// Whether it is being read now.
#[must_use]
pub fn is_verifying(root: &Path, revision: &Digest, now: SystemTime) -> bool {
    store::is_fresh(&path(root, revision, "heartbeat"), now)
}

/// Reads a revision again, from where an earlier invocation stopped. Nothing is done for one that is not there, or
/// that another process is at.
///
/// # Errors
/// When the file system fails; damage is none.
pub async fn reverify(root: &Path, revision: &Digest, stop: &CancellationToken) -> Result<(), TransferError> {
    if !store::is_present(root, revision) {
        return Ok(());
    }
    let (folder, name) = (root.to_owned(), *revision);
    let locked = blocking(move || lock(&folder, &name)).await?;
    let Some(lock) = locked else { return Ok(()) };
    let heartbeat = Heartbeat::start_at(path(root, revision, "heartbeat")).await;
    let (folder, name, stop) = (root.to_owned(), *revision, stop.clone());
    let done = blocking(move || {
        let _lock = lock;
        go_on(&folder, &name, &stop)
    });
    let done = done.await;
    heartbeat.end().await;
    done
}

fn lock(root: &Path, revision: &Digest) -> Result<Option<File>, StoreError> {
    let path = path(root, revision, "lock");
    disk::make_folders(&root.join("verified"))?;
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(StoreError::at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(StoreError::at("lock", &path)(e)),
    }
}

/// Tells a folder from another of the same name.
fn folder_node(root: &Path, revision: &Digest) -> Option<u64> {
    Some(fs::metadata(layout::revision_dir(root, revision)).ok()?.ino())
}

fn go_on(root: &Path, revision: &Digest, stop: &CancellationToken) -> Result<(), StoreError> {
    let earlier = look(root, revision).unwrap_or_default();
    let mut so_far = match earlier.ended {
        None => earlier,
        Some(at) => Look { before: (earlier.wrong == 0).then_some(at), ..Look::default() },
    };
    let Some(first) = folder_node(root, revision) else { return Ok(()) };
    // What is taken out meanwhile is not damaged, and what is copied anew is another.
    let is_there = || folder_node(root, revision) == Some(first);
    let keep = |look: &Look| {
        let text = serde_json::to_vec(look).unwrap_or_default();
        if is_there() { disk::write_whole(&path(root, revision, "json"), &text, 0o644) } else { Ok(()) }
    };
    let progress = Progress::default();
    let files = match open(root, revision)? {
        Files::Recorded(files) => files,
        Files::Without(verdict) => {
            let told = verdict.problems.first().map(|problem| problem.message.clone());
            let told = vec![told.unwrap_or_else(|| "there is no record to compare it with".to_owned())];
            return keep(&Look {
                files: 0,
                wrong: 1,
                told,
                ended: Some(seconds(SystemTime::now())),
                before: None,
            });
        }
    };
    while so_far.files < files.len() {
        let rest = &files[so_far.files..];
        let mut bytes = 0;
        let fits = rest.iter().take(FILES).take_while(|file| {
            let is_first = bytes == 0;
            bytes += file.object.size;
            is_first || bytes <= BYTES
        });
        let chunk = &rest[..fits.count()];
        let Some(problems) = look_at_all(root, revision, chunk, &progress, stop) else { return Ok(()) };
        if !is_there() {
            return Ok(());
        }
        so_far.files += chunk.len();
        so_far.add(problems);
        keep(&so_far)?;
    }
    so_far.add(unexpected(root, revision, &files)?);
    so_far.ended = Some(seconds(SystemTime::now()));
    if so_far.wrong > 0 {
        tracing::error!(%revision, problems = ?so_far.told, "the revision is damaged");
    }
    keep(&so_far)
}

impl Look {
    fn add(&mut self, problems: Vec<Problem>) {
        self.wrong += problems.len();
        let room = TOLD.saturating_sub(self.told.len());
        self.told.extend(problems.into_iter().take(room).map(|it| format!("{}: {}", it.path, it.message)));
    }
}
