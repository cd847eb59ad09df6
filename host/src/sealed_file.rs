//! A file that is sealed as it is written, piece by piece, and opened at any place without opening the rest: its plain
//! content is never on the disk.
//!
//! ```text
//! omni sealed file 1 ⏎ | length (4) sealed head | length (4) sealed piece | … | length (4) sealed last piece
//! ```
//!
//! Every piece is bound to its place and the last one to being the last: pieces cannot be changed, moved, left out or cut
//! off. All but the last have 256 KiB, which is how a place in the content is found.
//!
//! Deliberately not here: where the key is kept.

use crate::secrets::{MasterKey, OVERHEAD, SealError, Sealer};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::{Zeroize, Zeroizing};

const MAGIC: &[u8] = b"omni sealed file 1\n";
/// Bytes of a piece, plain.
const PIECE: usize = 256 << 10;
/// Most bytes of a head.
const MOST_HEAD: usize = 64 << 20;

/// Where a piece belongs.
fn place(name: &str, index: u64, is_last: bool) -> String {
    format!("file:{name}:{index}:{}", if is_last { "last" } else { "more" })
}

/// A file that is being written. Gone when it is dropped before it is [kept](Writer::keep).
pub struct Writer {
    file: File,
    partial: Partial,
    sealer: Sealer,
    name: String,
    plain: Vec<u8>,
    index: u64,
    size: u64,
}

struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Moved to its place, it is not here any more: that is the good case.
        let _ = fs::remove_file(&self.0);
    }
}

impl Writer {
    /// Begins one at a place where nothing is yet. `name` is what its pieces are bound to.
    pub fn create(path: PathBuf, name: &str, key: &MasterKey, head: &[u8]) -> io::Result<Self> {
        if head.len() > MOST_HEAD {
            return Err(io::Error::other(format!("the head has more than {MOST_HEAD} bytes")));
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let (sealer, name) = (Sealer::new(key), name.to_owned());
        let mut writer = Self {
            file,
            partial: Partial(path),
            sealer,
            name,
            plain: Vec::with_capacity(2 * PIECE),
            index: 0,
            size: 0,
        };
        writer.file.write_all(MAGIC)?;
        let sealed = writer.sealer.seal(&place(&writer.name, 0, false), head);
        writer.put(&sealed)?;
        Ok(writer)
    }

    fn put(&mut self, sealed: &[u8]) -> io::Result<()> {
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(sealed)?;
        self.index += 1;
        Ok(())
    }

    /// Writes the last piece, and returns when all of it is on the disk.
    pub fn finish(&mut self) -> io::Result<()> {
        let sealed = self.sealer.seal(&place(&self.name, self.index, true), &self.plain);
        self.plain.zeroize();
        self.put(&sealed)?;
        self.file.sync_all()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.partial.0
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Moves it to its place, where it stays.
    pub fn keep(&mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.partial.0, to)?;
        match to.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.plain.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
        // What may be the last piece waits.
        while self.plain.len() > PIECE {
            let rest = Vec::from(&self.plain[PIECE..]);
            let sealed = self.sealer.seal(&place(&self.name, self.index, false), &self.plain[..PIECE]);
            self.put(&sealed)?;
            self.plain.zeroize();
            self.plain.extend_from_slice(&rest);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.plain.zeroize();
    }
}

/// A file that is whole, open to be read.
pub struct Reader {
    file: File,
    sealer: Sealer,
    name: String,
    /// Where the pieces begin.
    begin: u64,
    pieces: u64,
    size: u64,
    /// The piece that was read last: the next read is likely to begin in it.
    last: Mutex<Option<Piece>>,
}

/// A piece with its place.
type Piece = (u64, Arc<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A piece as it lies in the file.
const STRIDE: u64 = (4 + OVERHEAD + PIECE) as u64;

fn damaged(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the sealed file is damaged: {why}"))
}

impl Reader {
    /// Opens one, and gives its head as well.
    pub fn open(path: &Path, name: &str, key: &MasterKey) -> io::Result<(Self, Zeroizing<Vec<u8>>)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let (sealer, name) = (Sealer::new(key), name.to_owned());
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if magic != MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        let mut reader = Self { file, sealer, name, begin: 0, pieces: 0, size: 0, last: Mutex::default() };
        let head = reader.sealed_at(MAGIC.len() as u64, MOST_HEAD + OVERHEAD)?;
        reader.begin = (MAGIC.len() + 4 + head.len()) as u64;
        let head = reader.plain(0, false, &head)?;
        let rest = length.checked_sub(reader.begin).filter(|rest| *rest > 0).ok_or_else(|| damaged("it ends early"))?;
        reader.pieces = rest.div_ceil(STRIDE);
        let last = reader.piece(reader.pieces - 1)?;
        reader.size = (reader.pieces - 1) * PIECE as u64 + last.len() as u64;
        Ok((reader, head))
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Some of its content from a place on; less at the end.
    pub fn read_at(&self, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        let mut at = offset;
        while found.len() < limit && at < self.size {
            let piece = self.piece(at / PIECE as u64)?;
            let from = usize::try_from(at % PIECE as u64).unwrap_or(PIECE).min(piece.len());
            let taken = (piece.len() - from).min(limit - found.len());
            found.extend_from_slice(&piece[from..from + taken]);
            at += taken as u64;
        }
        Ok(found)
    }

    fn piece(&self, number: u64) -> io::Result<Arc<Zeroizing<Vec<u8>>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, piece)) = &*last
            && *known == number
        {
            return Ok(Arc::clone(piece));
        }
        let sealed = self.sealed_at(self.begin + number * STRIDE, PIECE + OVERHEAD)?;
        let piece = Arc::new(self.plain(number + 1, number + 1 == self.pieces, &sealed)?);
        *last = Some((number, Arc::clone(&piece)));
        Ok(piece)
    }

    fn sealed_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.file.read_exact_at(&mut length, at)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > most {
            return Err(damaged("a piece of it is too long"));
        }
        let mut sealed = vec![0; length];
        self.file.read_exact_at(&mut sealed, at + 4)?;
        Ok(sealed)
    }

    fn plain(&self, index: u64, is_last: bool, sealed: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        let opened = self.sealer.open(&place(&self.name, index, is_last), sealed);
        opened.map_err(|error: SealError| damaged(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, key: &MasterKey, size: usize) -> (PathBuf, Vec<u8>) {
        let content: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
        let mut writer = Writer::create(folder.join("x.partial"), "x", key, b"the head").expect("begins");
        for piece in content.chunks(100_000) {
            writer.write_all(piece).expect("writes");
        }
        writer.finish().expect("ends");
        let to = folder.join("x");
        writer.keep(&to).expect("keeps");
        (to, content)
    }

    #[test]
    fn what_was_written_is_read_from_any_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = MasterKey::generate();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 17] {
            let (file, content) = write(folder.path(), &key, size);
            let plain = fs::read(&file).expect("reads");
            assert!(size < 64 || !plain.windows(64).any(|window| window == &content[..64]), "it is sealed");
            let (reader, head) = Reader::open(&file, "x", &key).expect("opens");
            assert_eq!((&**head, reader.size()), (&b"the head"[..], size as u64));
            for at in [0, 1, PIECE - 3, PIECE, 2 * PIECE + 5, size.saturating_sub(1), size, size + 9] {
                let expected: Vec<u8> = content.iter().skip(at).take(PIECE + 50).copied().collect();
                assert_eq!(reader.read_at(at as u64, PIECE + 50).expect("reads"), expected, "{size} at {at}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_changed_or_another_ones_does_not_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = MasterKey::generate();
        let (file, _) = write(folder.path(), &key, 2 * PIECE + 17);
        let whole = fs::read(&file).expect("reads");
        assert!(Reader::open(&file, "y", &key).is_err(), "another name");
        assert!(Reader::open(&file, "x", &MasterKey::generate()).is_err(), "another key");
        let begin = MAGIC.len() + 4 + OVERHEAD + 8;
        for length in [0, 10, begin, begin + STRIDE as usize, begin + 2 * STRIDE as usize, whole.len() - 1] {
            fs::write(&file, &whole[..length]).expect("writes");
            assert!(Reader::open(&file, "x", &key).is_err(), "the first {length} bytes");
        }
        let mut swapped = whole.clone();
        let (first, second) = (begin..begin + STRIDE as usize, begin + STRIDE as usize..begin + 2 * STRIDE as usize);
        let moved = whole[first.clone()].to_vec();
        swapped.copy_within(second.clone(), first.start);
        swapped[second].copy_from_slice(&moved);
        fs::write(&file, &swapped).expect("writes");
        let (reader, _) = Reader::open(&file, "x", &key).expect("its end is right");
        assert!(reader.read_at(0, 10).is_err(), "pieces that were moved");
    }

    #[test]
    fn one_that_is_not_kept_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::create(folder.path().join("x"), "x", &MasterKey::generate(), b"").expect("begins");
        writer.write_all(&vec![1; PIECE * 2]).expect("writes");
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
