//! A folder, mounted again as a network file system would show it: each request takes a while, all share one
//! line, and what was asked for is counted. `protocol` is how the kernel asks.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::protocol::{self, Answer, Asked, Attributes};

/// Requests that are served at once.
const AT_ONCE: usize = 32;

/// How slow it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    /// What every request takes.
    pub(crate) latency: Duration,
    /// What all reads together get, in bytes a second.
    pub(crate) bandwidth: f64,
}

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    bytes: Mutex<HashMap<PathBuf, u64>>,
    reads: AtomicU64,
    under_way: AtomicU64,
    most_under_way: AtomicU64,
}

impl Counts {
    /// Bytes that were read of each file.
    pub(crate) fn bytes(&self) -> HashMap<PathBuf, u64> {
        self.bytes.lock().unwrap().clone()
    }

    /// Requests to read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The most requests to read that were under way at once.
    pub(crate) fn at_once(&self) -> u64 {
        self.most_under_way.load(Ordering::Relaxed)
    }

    fn during<T>(&self, read: impl FnOnce() -> T) -> T {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(now, Ordering::Relaxed);
        let done = read();
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

/// The mount, ended when the test is.
pub(crate) struct Mount {
    at: TempDir,
    threads: Vec<JoinHandle<()>>,
    pub(crate) counts: Arc<Counts>,
}

impl Mount {
    /// Mounts `folder`; `None`, and a line that says so, where that cannot be done.
    #[expect(clippy::print_stdout, reason = "whoever runs the tests should see it")]
    pub(crate) fn of(folder: &Path, slowness: Slowness) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let device = match mounted(at.path()) {
            Ok(device) => Arc::new(device),
            Err(reason) => {
                println!("SKIPPED: nothing can be mounted here, which takes root and /dev/fuse: {reason}");
                return None;
            }
        };
        let counts = Arc::<Counts>::default();
        let slow = Arc::new(Slow {
            paths: Mutex::new(vec![folder.to_owned()]),
            slowness,
            free_at: Mutex::new(Instant::now()),
            counts: Arc::clone(&counts),
        });
        let serving = |_| {
            let (slow, device) = (Arc::clone(&slow), Arc::clone(&device));
            std::thread::spawn(move || slow.serve(&device))
        };
        Some(Self { threads: (0..AT_ONCE).map(serving).collect(), at, counts })
    }

    pub(crate) fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Its threads end with it.
        let ended = Command::new("umount").arg("--lazy").arg(self.at.path()).status();
        if ended.is_ok_and(|status| status.success()) {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

/// Mounts nothing yet: the device answers for it.
fn mounted(at: &Path) -> Result<File, String> {
    let told = |error: io::Error| error.to_string();
    let device = File::options().read(true).write(true).open("/dev/fuse").map_err(told)?;
    let output = Command::new("mount")
        .args(["-i", "-t", "fuse", "-o", "ro,fd=0,rootmode=40000,user_id=0,group_id=0", "larder-slow"])
        .arg(at)
        .stdin(Stdio::from(device.try_clone().map_err(told)?))
        .output()
        .map_err(told)?;
    if output.status.success() {
        Ok(device)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

struct Slow {
    /// By the numbers of their inodes, less one.
    paths: Mutex<Vec<PathBuf>>,
    slowness: Slowness,
    free_at: Mutex<Instant>,
    counts: Arc<Counts>,
}

impl Slow {
    fn serve(&self, device: &File) {
        let mut buffer = vec![0; protocol::BUFFER];
        loop {
            let length = match (&*device).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Of an interrupted request.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // It is no longer mounted.
                Err(_) => return,
            };
            let request = protocol::Request::of(&buffer[..length]);
            let answer = self.answer(&request).unwrap_or_else(Answer::Error);
            if let Some(bytes) = request.answered(&answer) {
                // Nobody waits for it if the request was interrupted.
                let _ = (&*device).write(&bytes);
            }
        }
    }

    fn answer(&self, request: &protocol::Request<'_>) -> Result<Answer, protocol::Error> {
        let missing = |_| protocol::NOT_THERE;
        match request.asked {
            Asked::Begin => Ok(Answer::Begun),
            Asked::Forget => Ok(Answer::Nothing),
            Asked::Close => Ok(Answer::Bytes(Vec::new())),
            Asked::Lookup(name) => {
                self.wait(0);
                let path = self.path(request.inode).join(OsStr::from_bytes(name));
                let about = std::fs::metadata(&path).map_err(missing)?;
                Ok(Answer::Entry(attributes(self.inode(path), &about)))
            }
            Asked::Attributes => {
                self.wait(0);
                let about = std::fs::metadata(self.path(request.inode)).map_err(missing)?;
                Ok(Answer::Attributes(attributes(request.inode, &about)))
            }
            Asked::Open => {
                self.wait(0);
                Ok(Answer::Opened)
            }
            Asked::List { offset } => {
                self.wait(0);
                self.list(request.inode, offset).map_err(missing)
            }
            Asked::Read { offset, size } => {
                self.counts.during(|| self.read(request.inode, offset, size)).map_err(missing)
            }
            Asked::Other => Err(protocol::NOT_DONE),
        }
    }

    fn list(&self, inode: u64, offset: usize) -> io::Result<Answer> {
        let entries = std::fs::read_dir(self.path(inode))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let named = |path: PathBuf| {
            let (name, is_folder) = (path.file_name().unwrap().to_owned(), path.is_dir());
            (self.inode(path), name, is_folder)
        };
        Ok(Answer::Entries(paths.into_iter().map(named).collect(), offset))
    }

    fn read(&self, inode: u64, offset: u64, size: usize) -> io::Result<Answer> {
        let path = self.path(inode);
        let file = File::open(&path)?;
        let mut bytes = vec![0; size];
        let mut read = 0;
        while read < size {
            match file.read_at(&mut bytes[read..], offset + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        *self.counts.bytes.lock().unwrap().entry(path).or_default() += read as u64;
        self.wait(read);
        Ok(Answer::Bytes(bytes))
    }

    fn path(&self, inode: u64) -> PathBuf {
        self.paths.lock().unwrap()[usize::try_from(inode - 1).unwrap()].clone()
    }

    fn inode(&self, path: PathBuf) -> u64 {
        let mut paths = self.paths.lock().unwrap();
        let at = paths.iter().position(|known| *known == path).unwrap_or_else(|| {
            paths.push(path);
            paths.len() - 1
        });
        at as u64 + 1
    }

    /// Returns when a request for so many bytes is answered.
    #[expect(clippy::cast_precision_loss, reason = "sizes of files")]
    fn wait(&self, bytes: usize) {
        let over = {
            let mut free_at = self.free_at.lock().unwrap();
            let on_the_line = Duration::from_secs_f64(bytes as f64 / self.slowness.bandwidth);
            *free_at = (*free_at).max(Instant::now()) + on_the_line;
            *free_at + self.slowness.latency
        };
        std::thread::sleep(over.saturating_duration_since(Instant::now()));
    }
}

fn attributes(inode: u64, about: &Metadata) -> Attributes {
    Attributes { inode, size: about.len(), is_folder: about.is_dir() }
}
