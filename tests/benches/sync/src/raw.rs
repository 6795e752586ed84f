//! What the server and the disk can do, each alone.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use crate::objects::Objects;
use crate::server::{BUCKET, PREFIX};

const PART: u64 = 8 << 20;
const READERS: usize = 8;
const WRITERS: usize = 4;

/// Bytes a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// From the server to nowhere.
    pub(crate) server: f64,
    /// From memory to the disk, synced.
    pub(crate) disk: f64,
}

impl Limit {
    /// Twice each; the better.
    pub(crate) fn measure(address: &str, objects: &Objects, dir: &Path) -> Result<Self> {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let bytes = (objects.files as u64 * objects.size) as f64;
        let better = |measure: &dyn Fn() -> Result<()>| -> Result<f64> {
            let mut best: f64 = 0.0;
            for _ in 0..2 {
                let begun = Instant::now();
                measure()?;
                best = best.max(bytes / begun.elapsed().as_secs_f64());
            }
            Ok(best)
        };
        let server = better(&|| in_threads(READERS, objects, |parts| read(address, objects, parts)))?;
        let to = dir.join("raw");
        let disk = better(&|| {
            fs::create_dir_all(&to)?;
            (0..16).try_for_each(|d| fs::create_dir_all(to.join(format!("d{d:02}"))))?;
            in_threads(WRITERS, objects, |parts| write(&to, objects, parts))?;
            rustix::fs::syncfs(File::open(&to)?)?;
            Ok(())
        })?;
        fs::remove_dir_all(&to)?;
        Ok(Self { server, disk })
    }

    pub(crate) const fn lower(&self) -> f64 {
        self.server.min(self.disk)
    }
}

/// Which part of which file is next.
struct Parts<'a> {
    next: &'a AtomicUsize,
    of_file: usize,
    files: usize,
    size: u64,
}

impl Iterator for Parts<'_> {
    type Item = (usize, u64, u64);

    fn next(&mut self) -> Option<(usize, u64, u64)> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (file, part) = (next / self.of_file, (next % self.of_file) as u64);
        (file < self.files).then(|| (file, part * PART, PART.min(self.size - part * PART)))
    }
}

fn in_threads(
    threads: usize,
    objects: &Objects,
    work: impl Fn(Parts<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let next = &AtomicUsize::new(0);
    let of_file = usize::try_from(objects.size.div_ceil(PART))?;
    let (work, files, size) = (&work, objects.files, objects.size);
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|_| scope.spawn(move || work(Parts { next, of_file, files, size }))).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread died"))?)
    })
}

fn read(address: &str, objects: &Objects, parts: Parts<'_>) -> Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(16 << 10, &stream);
    let mut buffer = vec![0; 256 << 10];
    for (file, offset, length) in parts {
        let path = Objects::path(file);
        let range = if length < objects.size {
            format!("Range: bytes={offset}-{}\r\n", offset + length - 1)
        } else {
            String::new()
        };
        let request = format!("GET /{BUCKET}/{PREFIX}{path} HTTP/1.1\r\nHost: x\r\n{range}\r\n");
        (&stream).write_all(request.as_bytes())?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left)?.min(buffer.len());
            let n = reader.read(&mut buffer[..want])?;
            left = left.checked_sub(n as u64).filter(|_| n > 0).context("the server ended early")?;
        }
    }
    Ok(())
}

fn write(to: &Path, objects: &Objects, parts: Parts<'_>) -> Result<()> {
    for (file, offset, length) in parts {
        let path = to.join(Objects::path(file));
        let opened = File::options().write(true).create(true).truncate(false).open(path)?;
        let mut at = offset;
        for slice in Objects::slices(file, offset..offset + length) {
            for piece in objects.block[slice].chunks(1 << 20) {
                opened.write_all_at(piece, at)?;
                at += piece.len() as u64;
            }
        }
    }
    Ok(())
}
