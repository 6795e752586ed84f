//! A staged file that parts are written to, past the page cache where that can be.
//!
//! Who copies a model does not read it: other sandboxes do, on other machines. Through the page cache each byte would be
//! copied once more, and its pages found, marked and written back: more work for the processor than all the rest
//! of a copy (`docs/sync-speed.md`).

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;

use bytes::Bytes;
use rustix::fs::OFlags;

use super::disk::StoreError;

/// What the address, the offset and the length of a direct write are multiples of: the page, which is no less than
/// any file system asks for (open(2), "`O_DIRECT`").
const ALIGNMENT: usize = 4_096;

/// Bytes on their way to a file, at an address from which they can be written directly.
#[derive(Debug)]
pub struct Piece {
    /// The content, after what is before the first such address.
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
}

impl Piece {
    /// With room for so many bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(ALIGNMENT + capacity);
        // At most the alignment, so that the content never moves.
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes.resize(start, 0);
        Self { bytes, start, capacity }
    }

    /// Takes as much off the start of a chunk as there is room for, and answers with that.
    pub fn take(&mut self, chunk: &mut Bytes) -> Bytes {
        let taken = chunk.split_to(chunk.len().min(self.capacity - self.len()));
        self.bytes.extend_from_slice(&taken);
        taken
    }

    /// Whether there is no more room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// Forgets the content, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Whether what is written to a file goes through the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// It does: the file is read back soon.
    Through,
    /// It does not, where the file system can write so.
    Past,
}

/// A staged file that is open for writing at offsets.
#[derive(Debug)]
pub struct StagedFile {
    path: PathBuf,
    file: File,
    is_direct: bool,
}

impl StagedFile {
    pub(super) fn new(path: PathBuf, file: File, cache: Cache) -> Self {
        // A file system that has no direct writes says that the flag is invalid.
        let set = || rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? | OFlags::DIRECT);
        let is_direct = cache == Cache::Past && set().is_ok();
        Self { path, file, is_direct }
    }

    /// Writes a piece from this offset on. What fills no block, at the end of a file, goes through the page cache.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn write(&self, piece: &Piece, at: u64) -> Result<(), StoreError> {
        self.write_bytes(piece, at).map_err(StoreError::at("write", &self.path))
    }

    fn write_bytes(&self, piece: &Piece, at: u64) -> io::Result<()> {
        if !self.is_direct {
            return self.file.write_all_at(piece, at);
        }
        let blocks =
            if at.is_multiple_of(ALIGNMENT as u64) { piece.len() / ALIGNMENT * ALIGNMENT } else { 0 };
        let (direct, rest) = match self.file.write_all_at(&piece[..blocks], at) {
            Ok(()) => piece.split_at(blocks),
            // Some file systems take the flag, and not the write.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => piece.split_at(0),
            Err(e) => return Err(e),
        };
        if rest.is_empty() {
            return Ok(());
        }
        File::options().write(true).open(&self.path)?.write_all_at(rest, at + direct.len() as u64)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the file system does not let us, or a write to it failed.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::at("sync", &self.path))
    }

    /// Lets nobody write to it any more who has not opened it yet.
    ///
    /// # Errors
    /// When the file system does not let us.
    pub fn make_read_only(&self) -> Result<(), StoreError> {
        let mode = std::fs::Permissions::from_mode(super::READ_ONLY);
        self.file.set_permissions(mode).map_err(StoreError::at("make read-only", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece_of(bytes: &[u8]) -> Piece {
        let mut piece = Piece::new(bytes.len());
        let mut chunk = Bytes::copy_from_slice(bytes);
        piece.take(&mut chunk);
        assert!(piece.is_full() && chunk.is_empty());
        piece
    }

    fn numbers(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn a_piece_takes_what_it_has_room_for_and_stays_where_it_is() {
        for capacity in [1, 100, ALIGNMENT, 3 * ALIGNMENT + 5] {
            let bytes = numbers(capacity + 7);
            let mut chunk = Bytes::from(bytes.clone());
            let mut piece = Piece::new(capacity);
            for _ in 0..2 {
                let mut some = chunk.split_to(capacity / 2);
                piece.take(&mut some);
                piece.take(&mut chunk);
                assert_eq!((&*piece, chunk.len()), (&bytes[..capacity], 7));
                assert!(piece.is_full() && piece.as_ptr().addr().is_multiple_of(ALIGNMENT));
                piece.clear();
                assert!(piece.is_empty());
                chunk = Bytes::from(bytes.clone());
            }
        }
    }

    /// Every way to cut a file that is not a whole number of blocks, with each way to write it, and where it was
    /// written to before.
    #[test]
    fn what_is_written_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = numbers(5 * ALIGNMENT + 123);
        for cache in [Cache::Past, Cache::Through] {
            for cut in [0, 1, ALIGNMENT - 1, ALIGNMENT, 2 * ALIGNMENT, 2 * ALIGNMENT + 9, bytes.len()] {
                let path = folder.path().join(format!("{cache:?}-{cut}"));
                std::fs::write(&path, vec![7; bytes.len()]).unwrap();
                let file =
                    StagedFile::new(path.clone(), File::options().write(true).open(&path).unwrap(), cache);
                file.write(&piece_of(&bytes[cut..]), cut as u64).unwrap();
                file.write(&piece_of(&bytes[..cut]), 0).unwrap();
                file.sync().unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), bytes, "{cache:?}, cut at {cut}");
            }
        }
    }
}
