//! What needs `unsafe`, kept apart so that the rest of the workspace can forbid it.
//!
//! - [`MappedFile`]: a file as bytes, without reading it.
//! - [`share_one_heap`] and [`give_back_free_memory`]: the C library's free memory, back to the system.
//! - [`flush_subnormals`]: no slow arithmetic on numbers that are next to zero.
//!
//! Deliberately absent: everything that safe Rust can do.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Advice, Mmap};

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

    /// Has the system begin to read the whole file, with many requests at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read_ahead(&self) -> io::Result<()> {
        self.0.advise(Advice::WillNeed)
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

/// Makes arithmetic of this thread, and of all threads that it starts from now on, take subnormal numbers
/// (of 32 bits: below 1.2e-38) for zero. Call it before there are threads. Processors compute with them up
/// to a hundred times slower, and networks whose last layer is a sigmoid are full of them: a text detector
/// runs three times faster without. Does nothing on other processors than x86-64 and arm64.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "a register of the processor")
)]
pub fn flush_subnormals() {
    // SAFETY: only the bits that say what becomes of subnormal numbers are set (MXCSR: FTZ and DAZ, FPCR:
    // FZ). Rust reckons with none of them set; the code compiled here loses nothing but subnormal results,
    // as it does when a C library that was built for fast arithmetic is loaded.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        let mut control = 0_u32;
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack));
        control |= 0x8040;
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        let mut control: u64;
        std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack));
        control |= 1 << 24;
        std::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack));
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

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn a_thread_and_those_that_it_starts_take_subnormals_for_zero() {
        let half = || std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5);
        let apart = std::thread::spawn(move || {
            let before = half();
            flush_subnormals();
            (before, half(), std::thread::spawn(half).join().unwrap())
        });
        let (before, after, inherited) = apart.join().unwrap();
        assert!(before > 0.0, "{before}");
        assert_eq!((after.to_bits(), inherited.to_bits()), (0, 0));
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
