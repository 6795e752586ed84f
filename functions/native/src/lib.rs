//! What needs `unsafe`, kept apart so that the rest of the workspace can forbid it.
//!
//! - [`MappedFile`]: a file as bytes, without reading it.
//! - [`share_one_heap`] and [`give_back_free_memory`]: the C library's free memory, back to the system.
//!
//! Deliberately absent: everything that safe Rust can do.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A file, mapped into memory: its bytes are read when they are looked at.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file that nobody changes while it is mapped. A file that is cut short under the map ends the
    /// process with SIGBUS, so map only files that are written aside, renamed when whole and never touched
    /// again, as everything under `revisions/` and `prepared/` is.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped; an empty file cannot.
    #[expect(unsafe_code, reason = "a map is sound only as long as the file stays as it is")]
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: only files that are never changed once they have their name are opened here; see above.
        unsafe { Mmap::map(&file) }.map(Self)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Makes all threads share one heap. Call it before there are threads. Else each has a heap of its own,
/// whose free end [`give_back_free_memory`] cannot give back: tens of megabytes for each thread that ever
/// loaded a model. Does nothing where the C library is not glibc.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a function of the C library")
)]
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two numbers; before there are threads nothing else uses the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free inside the C library's allocator back to the system. Without it a process
/// keeps most of what dropped models took. Does nothing where the C library is not glibc.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a function of the C library")
)]
pub fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes no pointer, may be called at any time and by any thread
    // (malloc_trim(3): MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_is_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"some bytes").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"some bytes");
        std::fs::write(&path, b"").unwrap();
        assert!(MappedFile::open(&path).map_or(true, |m| m.is_empty()));
        assert!(MappedFile::open(&folder.path().join("b")).is_err());
    }

    /// Many small pieces between ones that stay: the allocator keeps their pages until it is asked.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn freed_memory_goes_back() {
        let anonymous = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let mut pieces: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 4096]).collect();
        let kept = pieces.split_off(19_999);
        drop(pieces);
        let before = anonymous();
        give_back_free_memory();
        let after = anonymous();
        assert!(after + 40_000 < before, "{before} kB before, {after} kB after");
        assert_eq!(kept[0][0], 1);
    }
}
