//! Reading model files from a network file system: in large pieces, many at once.
//!
//! A file that is mapped, or read from front to back, waits for one small request after the other.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes of one request: what NFS clients ask for at most.
const PIECE: usize = 1 << 20;

/// Requests under way.
const AT_ONCE: usize = 8;

/// A whole file, in one buffer.
///
/// # Errors
/// When it cannot be read.
pub fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let (file, length) = opened(path)?;
    let mut bytes = vec![0; length];
    each(bytes.chunks_mut(PIECE).zip((0..).step_by(PIECE)), |(piece, offset)| {
        file.read_exact_at(piece, offset)
    })?;
    Ok(bytes)
}

/// Has the system read a whole file, for someone who reads it from front to back afterwards.
///
/// # Errors
/// When it cannot be read.
pub fn ahead(path: &Path) -> io::Result<()> {
    let (file, length) = opened(path)?;
    each((0..length).step_by(PIECE), |offset| {
        let mut piece = vec![0; PIECE.min(length - offset)];
        file.read_exact_at(&mut piece, offset as u64)
    })
}

fn opened(path: &Path) -> io::Result<(File, usize)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, usize::try_from(length).map_err(io::Error::other)?))
}

/// Does all pieces of work, some at once, until one fails.
fn each<T: Send>(
    pieces: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let pieces = Mutex::new(pieces);
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || std::iter::from_fn(next).try_for_each(&work);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..AT_ONCE).map(|_| scope.spawn(some)).collect();
        let own = some();
        let others = others.into_iter().map(|other| other.join().unwrap_or(Err(io::ErrorKind::Other.into())));
        own.and(others.collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_whatever_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 11 * PIECE + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + at / PIECE).to_le_bytes()[0]).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert!(whole(&path).unwrap() == bytes, "{length}");
            ahead(&path).unwrap();
        }
        assert!(whole(folder.path()).is_err() && ahead(&folder.path().join("none")).is_err());
    }
}
