//! An index file on a disk that has turned read-only.
//!
//! After a write that failed redb has to open the file anew, and opening one that was not closed writes to it. What it
//! writes there is kept in memory instead, so that everything can be read until the disk is mended; nothing else can be
//! written.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Database, DatabaseError, StorageBackend, backends::FileBackend};

const BLOCK: u64 = 4096;

/// Memory for pages, in bytes: that is no time for speed.
const CACHE_BYTES: usize = 16 << 20;

/// Opens the file for reading alone.
pub(super) fn open(path: &Path) -> Result<Database, DatabaseError> {
    let file = FileBackend::new(File::open(path)?)?;
    let opened = Arc::new(AtomicBool::new(false));
    let over = Mutex::new(Over { length: file.len()?, blocks: BTreeMap::new() });
    let frozen = Frozen { file, opened: Arc::clone(&opened), over };
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(frozen)?;
    opened.store(true, Ordering::Release);
    Ok(database)
}

#[derive(Debug)]
struct Frozen {
    file: FileBackend,
    opened: Arc<AtomicBool>,
    over: Mutex<Over>,
}

/// What was written when it was opened, over what is on the disk.
#[derive(Debug)]
struct Over {
    length: u64,
    /// By number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Frozen {
    fn change(&self, change: impl FnOnce(&mut Over) -> io::Result<()>) -> io::Result<()> {
        if self.opened.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        change(&mut self.over.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is on the disk, and nothing behind its end.
    fn read_disk(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.file.len()?.saturating_sub(offset).min(out.len() as u64);
        let (there, beyond) = out.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX));
        beyond.fill(0);
        self.file.read(offset, there)
    }
}

/// The parts of a range that lie in one block each: its number, where the part begins in it, and its place in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = offset + from as u64;
        let begin = usize::try_from(at % BLOCK).ok()?;
        let to = length.min(from + BLOCK as usize - begin);
        let part = from..to;
        from = to;
        (!part.is_empty()).then_some((at / BLOCK, begin, part))
    })
}

impl StorageBackend for Frozen {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_disk(offset, out)?;
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, begin, part) in parts(offset, out.len()) {
            let written = over.blocks.get(&number).and_then(|block| block.get(begin..begin + part.len()));
            if let (Some(written), Some(out)) = (written, out.get_mut(part)) {
                out.copy_from_slice(written);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(|over| {
            over.length = length;
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|_| Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|over| {
            over.length = over.length.max(offset + data.len() as u64);
            for (number, begin, part) in parts(offset, data.len()) {
                let mut block = match over.blocks.remove(&number) {
                    Some(block) => block,
                    None => {
                        let mut block = vec![0; BLOCK as usize];
                        self.read_disk(number * BLOCK, &mut block)?;
                        block
                    }
                };
                let written = block.get_mut(begin..begin + part.len());
                if let (Some(written), Some(data)) = (written, data.get(part)) {
                    written.copy_from_slice(data);
                }
                over.blocks.insert(number, block);
            }
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
